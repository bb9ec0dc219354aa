import { deepEqual, equal } from "node:assert/strict";
import {
  addMonths,
  differenceInCalendarDays,
  eachDayOfInterval,
  format,
  formatDistanceStrict,
  intervalToDuration,
  isBefore,
  parse,
  parseISO,
  startOfWeek,
} from "date-fns";
import { de } from "date-fns/locale";
import { program } from "./program";

const epoch = parseISO("2024-02-29T12:30:45Z");

export default program(
  () => {
    equal(format(epoch, "yyyy-MM-dd'T'HH:mm:ss"), "2024-02-29T12:30:45");
    equal(format(epoch, "EEEE, do MMMM yyyy"), "Thursday, 29th February 2024");
    equal(format(epoch, "EEEE, d. MMMM", { locale: de }), "Donnerstag, 29. Februar");
    equal(format(addMonths(epoch, 12), "yyyy-MM-dd"), "2025-02-28");
    equal(differenceInCalendarDays(parseISO("2024-12-25"), epoch), 300);
    equal(formatDistanceStrict(epoch, parseISO("2024-03-02T12:30:45Z")), "2 days");
    equal(format(startOfWeek(epoch, { weekStartsOn: 1 }), "yyyy-MM-dd"), "2024-02-26");
    equal(eachDayOfInterval({ start: parseISO("2024-01-01"), end: parseISO("2024-12-31") }).length, 366);
    equal(parse("03/04/2021 05:06", "dd/MM/yyyy HH:mm", new Date(0)).toISOString(), "2021-04-03T05:06:00.000Z");
    deepEqual(intervalToDuration({ start: 0, end: 90_061_000 }), { days: 1, hours: 1, minutes: 1, seconds: 1 });
    equal(isBefore(epoch, Date.now()), true);
  },
);
