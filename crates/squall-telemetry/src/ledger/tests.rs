use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use squall_types::clients::ApiClient;
use squall_types::invoke::Trigger;
use squall_types::limits::Limits;
use squall_types::manifest::{InstanceMode, SharedInstances};
use squall_types::shard::Local;
use squall_types::state::{BlobId, FunctionKey, FunctionSpec, HandlerWorld};
use squall_types::usage::{UpstreamKey, UsageSubject, UsageTotals};
use squall_types::{AppName, ErrorCode, FunctionName, RevisionId};
use tempfile::tempdir;

use super::*;

const DAY_S: u64 = 86_400;
/// Tells the test binary to be the child that writes records, and where.
const CHILD_DIR: &str = "SQUALL_TEST_LEDGER_CHILD";

fn spec(app: &str) -> Arc<FunctionSpec> {
    Arc::new(FunctionSpec {
        key: FunctionKey {
            app: AppName::parse(app).unwrap(),
            revision: RevisionId::parse("abcdefghij").unwrap(),
            function: FunctionName::parse("api").unwrap(),
        },
        code: BlobId([0; 32]),
        world: HandlerWorld::Http02,
        mode: InstanceMode::PerRequest,
        shared: SharedInstances::default(),
        limits: Limits::default(),
        allowed_hosts: Vec::new(),
        allow_private: false,
        variables: BTreeMap::new(),
        fall_through: false,
        bindings: Default::default(),
    })
}

/// Some records have a client, by an `Arc` of their own each time.
fn client_of(number: u64) -> Option<Arc<ApiClient>> {
    let client = ApiClient {
        id: format!("client-{}", number % 4),
        plan: None,
        scopes: Vec::new(),
        disabled: false,
    };
    (!number.is_multiple_of(4)).then(|| Arc::new(client))
}

/// A record whose every field depends on `number`.
fn record(function: &Arc<FunctionSpec>, number: u64) -> UsageRecord {
    UsageRecord {
        subject: UsageSubject::from(Local::from(function.clone())).with_client(client_of(number)),
        trigger: if number.is_multiple_of(5) { Trigger::Manual } else { Trigger::Http },
        started: UNIX_EPOCH + Duration::from_secs(20_000 * DAY_S + number * 7_000),
        wall_ns: 1_000_000 + number * 1_234_567,
        cpu_ns: 500 + number,
        estimated: number.is_multiple_of(3),
        memory_bytes: 1 << 20,
        bytes_in: number,
        bytes_out: number * 300,
        status: if number.is_multiple_of(7) { 500 } else { 200 },
        code: number.is_multiple_of(11).then_some(ErrorCode::Trapped),
        cold: number.is_multiple_of(13),
        cache_hit: number.is_multiple_of(19),
        aborted: number.is_multiple_of(17),
        trace_id: [number as u8 | 0x80; 16],
    }
}

fn open(dir: &Path) -> Arc<Ledger> {
    let mut options = LedgerOptions::new(dir);
    // Tests flush by themselves.
    options.flush_interval = Duration::from_secs(1);
    Ledger::open(options).unwrap()
}

fn expected(records: impl IntoIterator<Item = UsageRecord>) -> Vec<UsageRow> {
    let mut sums = Totals::new();
    for record in records {
        let day = Day::of_micros(unix_micros(record.started));
        let origin = totals::Origin::new(&record.subject, record.trigger);
        let key = totals::RowKey { day, origin };
        sums.entry(key).or_default().add(&record);
    }
    sums.iter().map(|(key, sum)| totals::row_of(key, sum).unwrap()).collect()
}

fn all(ledger: &Ledger) -> Vec<UsageRow> {
    ledger.usage(&UsageFilter::default()).unwrap()
}

/// What was recorded: invocations, and requests that the cache answered.
fn requests(rows: &[UsageRow]) -> u64 {
    rows.iter().map(|row| row.totals.invocations + row.totals.cache_hits).sum()
}

#[test]
fn unflushed_flushed_restarted_and_recomputed_sums_are_the_same() {
    let dir = tempdir().unwrap();
    let functions = [spec("one"), spec("two")];
    let records = || (0..500).map(|n| record(&functions[n as usize % 2], n));
    let want = expected(records());

    let ledger = open(dir.path());
    records().for_each(|record| ledger.record(record));
    assert_eq!(all(&ledger), want);
    ledger.flush().unwrap();
    assert_eq!(all(&ledger), want);
    drop(ledger);

    let ledger = open(dir.path());
    assert_eq!(all(&ledger), want);
    let recomputed = ledger.recompute().unwrap();
    assert!(!recomputed.recomputed.is_empty());
    assert_eq!((recomputed.mended.len(), recomputed.kept.len()), (0, 0));
    assert_eq!(all(&ledger), want);
}

#[test]
fn usage_is_filtered_by_app_and_day() {
    let dir = tempdir().unwrap();
    let ledger = open(dir.path());
    let functions = [spec("one"), spec("two")];
    (0..100).for_each(|n| ledger.record(record(&functions[n as usize % 2], n)));
    let days: Vec<String> = all(&ledger).into_iter().map(|row| row.day).collect();
    let filter = UsageFilter {
        app: Some("two".into()),
        client: None,
        from: Some(days[3].clone()),
        to: Some(days[days.len() / 2].clone()),
    };
    let want: Vec<UsageRow> = all(&ledger)
        .into_iter()
        .filter(|row| row.app == "two" && row.day >= days[3] && row.day <= days[days.len() / 2])
        .collect();
    assert!(!want.is_empty());
    assert_eq!(ledger.usage(&filter).unwrap(), want);
    ledger.recompute().unwrap();
    assert_eq!(ledger.usage(&filter).unwrap(), want);

    let of_client = UsageFilter { client: Some("client-1".into()), ..UsageFilter::default() };
    let rows = ledger.usage(&of_client).unwrap();
    assert_eq!(requests(&rows), 25);
    assert!(rows.iter().all(|row| row.client.as_deref() == Some("client-1")));

    let wrong = UsageFilter { from: Some("yesterday".into()), ..UsageFilter::default() };
    assert_eq!(ledger.usage(&wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn upstreams_and_clients_have_rows_of_their_own() {
    let dir = tempdir().unwrap();
    let ledger = open(dir.path());
    let function = spec("one");
    let upstream = Arc::new(UpstreamKey {
        app: function.key.app.clone(),
        revision: function.key.revision.clone(),
        // The name of a function as well: they are not the same thing.
        upstream: "api".to_owned(),
    });
    let of_upstream = |number| {
        let subject =
            UsageSubject::from(Local::from(upstream.clone())).with_client(client_of(number));
        UsageRecord { subject, ..record(&function, number) }
    };
    let records =
        || (0..60).map(|n| if n % 2 == 0 { record(&function, n) } else { of_upstream(n) });
    records().for_each(|record| ledger.record(record));
    let want = expected(records());
    assert!(want.iter().any(|row| row.upstream.as_deref() == Some("api")));
    assert!(want.iter().any(|row| row.client.is_none()));
    assert_eq!(all(&ledger), want);
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!(all(&ledger), want);
    ledger.recompute().unwrap();
    assert_eq!(all(&ledger), want);
}

/// Frames and sums as they were written before there were clients and upstreams.
#[test]
fn what_was_written_before_there_were_clients_is_still_read() {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
    let function = |out: &mut Vec<u8>| {
        for part in ["one", "api", "abcdefghij"] {
            text(out, part);
        }
        out.push(Trigger::Http as u8);
    };
    // Kind 1, base 0, one function, two records of it.
    let mut records = vec![1, 0, 1];
    function(&mut records);
    records.push(2);
    for wall in [7, 9] {
        // Function, start, wall, cpu, memory, in, out, status (200), code, flags, trace.
        records.extend([0, 0, wall, 3, 0, 1, 2, 0xc8, 1, 0, 0]);
        records.extend([0x5a; 16]);
    }
    // Kind 2, one row of the second day.
    let mut sums = vec![2, 1, 1];
    function(&mut sums);
    sums.extend([5, 1, 0, 2, 100, 50, 0, 0, 10, 20]);

    let dir = tempdir().unwrap();
    let mut bytes = b"squall usage 1\n\0".to_vec();
    segment::put_frame(&mut bytes, &records);
    segment::put_frame(&mut bytes, &sums);
    fs::create_dir_all(dir.path().join("days")).unwrap();
    fs::write(dir.path().join("01AAAAAAAAAAAAAAAAAAAAAAAA.seg"), &bytes).unwrap();
    let day = r#"{"segments":[],"rows":[{"day":"1970-01-02","app":"one","function":"api",
        "revision":"abcdefghij","trigger":"http","totals":{"invocations":1,"failed":0,
        "aborted":0,"cold":0,"wall_ns":1,"cpu_ns":1,"cpu_estimated_ns":0,"memory_byte_ms":0,
        "bytes_in":0,"bytes_out":0}}]}"#;
    fs::write(dir.path().join("days/1970-01-02.json"), day).unwrap();

    let ledger = open(dir.path());
    let check = || {
        let rows = all(&ledger);
        let [first, second] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((first.day.as_str(), second.day.as_str()), ("1970-01-01", "1970-01-02"));
        assert_eq!((first.totals.invocations, first.totals.wall_ns), (2, 16));
        assert_eq!((second.totals.invocations, second.totals.bytes_out), (6, 20));
        assert_eq!(first.function.as_deref(), Some("api"));
        assert_eq!((&first.upstream, &first.client), (&None, &None));
    };
    check();
    ledger.inner.roll_up().unwrap();
    check();
}

#[test]
fn recompute_mends_sums_that_were_changed() {
    let dir = tempdir().unwrap();
    let ledger = open(dir.path());
    let function = spec("one");
    (0..50).for_each(|n| ledger.record(record(&function, n)));
    let want = all(&ledger);
    ledger.recompute().unwrap();
    let day = dir.path().join("days").join(format!("{}.json", want[0].day));
    let text = fs::read_to_string(&day).unwrap();
    fs::write(&day, text.replace("\"invocations\":", "\"invocations\":9")).unwrap();
    assert_ne!(all(&ledger), want);
    assert_eq!(ledger.recompute().unwrap().mended, [want[0].day.clone()]);
    assert_eq!(all(&ledger), want);
}

#[test]
fn every_roll_up_step_can_be_the_last_one() {
    let function = spec("one");
    let records = || (0..40).map(|n| record(&function, n));
    let want = expected(records());
    for crash_at in 0.. {
        let dir = tempdir().unwrap();
        let folder = Folder::open(dir.path().to_owned()).unwrap();
        // Two segments that share days, as two processes leave them.
        for half in [0..25, 25..40] {
            let mut writer = folder.create_segment(&Ulid::new().to_string()).unwrap();
            let mut batch = Batch::default();
            half.for_each(|n| batch.push(record(&function, n)));
            let mut frame = Vec::new();
            segment::put_frame(&mut frame, &batch.encode());
            writer.append(&frame).unwrap();
        }
        let mut steps = 0;
        let outcome = folder.roll_up(&Retain::default(), &mut |_| {
            steps += 1;
            if steps > crash_at { Err(io::Error::other("crash")) } else { Ok(()) }
        });
        let ledger = open(dir.path());
        assert_eq!(all(&ledger), want, "cut off after step {crash_at}");
        ledger.recompute().unwrap();
        assert_eq!(all(&ledger), want, "cut off after step {crash_at}");
        assert_eq!(ledger.inner.folder.segments().unwrap(), Vec::<String>::new());
        if outcome.is_ok() {
            assert!(crash_at > 4);
            return;
        }
    }
}

#[test]
fn a_segment_cut_at_any_byte_counts_whole_frames_only() {
    let dir = tempdir().unwrap();
    let function = spec("one");
    let mut bytes = b"squall usage 1\n\0".to_vec();
    let mut ends = vec![(bytes.len(), 0)];
    for n in 0..6u64 {
        let mut batch = Batch::default();
        (0..=n).for_each(|m| batch.push(record(&function, m)));
        segment::put_frame(&mut bytes, &batch.encode());
        ends.push((bytes.len(), ends[n as usize].1 + n + 1));
    }
    let path = dir.path().join("cut.seg");
    for length in 0..=bytes.len() {
        let want = ends.iter().rev().find(|(end, _)| *end <= length).map_or(0, |(_, sum)| *sum);
        fs::write(&path, &bytes[..length]).unwrap();
        let contents = segment::read(&path).unwrap();
        let counted: u64 =
            contents.totals.values().map(|sum| sum.invocations + sum.cache_hits).sum();
        assert_eq!(counted, want, "cut at {length}");
        // A disk that keeps the size but not the data leaves zeros.
        let mut zeroed = bytes[..length].to_vec();
        zeroed.resize(bytes.len() + 100, 0);
        fs::write(&path, &zeroed).unwrap();
        if let Ok(contents) = segment::read(&path) {
            let counted: u64 =
                contents.totals.values().map(|sum| sum.invocations + sum.cache_hits).sum();
            assert_eq!(counted, want, "zeroed from {length}");
        } else {
            assert!(length < 16, "only a damaged magic is refused");
        }
    }
}

proptest! {
    #[test]
    fn a_flipped_byte_never_makes_a_wrong_sum(position in 16usize..400, flip in 1u8..) {
        let dir = tempdir().unwrap();
        let function = spec("one");
        let mut bytes = b"squall usage 1\n\0".to_vec();
        for n in 0..4 {
            let mut batch = Batch::default();
            (0..3).for_each(|m| batch.push(record(&function, n * 3 + m)));
            segment::put_frame(&mut bytes, &batch.encode());
        }
        let position = position.min(bytes.len() - 1);
        bytes[position] ^= flip;
        let path = dir.path().join("flipped.seg");
        fs::write(&path, &bytes).unwrap();
        let rows: Vec<UsageRow> = segment::read(&path).unwrap().totals
            .iter().map(|(key, sum)| totals::row_of(key, sum).unwrap()).collect();
        let prefixes: Vec<Vec<UsageRow>> =
            (0..4).map(|n| expected((0..n * 3).map(|m| record(&function, m)))).collect();
        prop_assert!(prefixes.contains(&rows));
    }

    #[test]
    fn any_record_is_summed_as_the_contract_sums_it(
        fields in any::<(u32, u32, u32, u32, u32, u16, bool, bool, [bool; 2], u64)>(),
    ) {
        let function = spec("one");
        let (wall, cpu, memory, bytes_in, bytes_out, status, estimated, cold, [aborted, cache_hit], start) = fields;
        let record = UsageRecord {
            started: UNIX_EPOCH + Duration::from_micros(start >> 12),
            wall_ns: wall.into(),
            cpu_ns: cpu.into(),
            memory_bytes: u64::from(memory) << 8,
            bytes_in: bytes_in.into(),
            bytes_out: bytes_out.into(),
            status,
            estimated,
            cold,
            cache_hit,
            aborted,
            ..record(&function, u64::from(status))
        };
        let mut batch = Batch::default();
        batch.push(record.clone());
        let mut sums = Totals::new();
        prop_assert!(batch::decode(&batch.encode(), &mut sums).is_some());
        let mut want = UsageTotals::default();
        want.add(&record);
        prop_assert_eq!(sums.into_values().collect::<Vec<_>>(), vec![want]);
    }

    #[test]
    fn any_payload_is_decoded_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut sums = Totals::new();
        if batch::decode(&payload, &mut sums).is_none() {
            prop_assert!(sums.is_empty());
        }
    }
}

#[test]
fn sums_take_over_when_waiting_records_are_too_many() {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("usage");
    let mut options = LedgerOptions::new(&folder);
    options.waiting_bytes = 1;
    options.flush_interval = Duration::from_secs(1);
    let ledger = Ledger::open(options).unwrap();
    // With a folder in the way of the segment, nothing can be written.
    let blocked = folder.join(format!("{}.seg", lock(&ledger.inner.state).segment));
    fs::create_dir(&blocked).unwrap();
    let function = spec("one");
    for n in 0..20 {
        ledger.record(record(&function, n));
        assert!(ledger.flush().is_err());
    }
    let mut metrics = String::new();
    ledger.write_metrics(&mut metrics);
    assert!(metrics.contains("\nsquall_usage_coalesced_total 19\n"), "{metrics}");
    fs::remove_dir(&blocked).unwrap();
    ledger.flush().unwrap();
    let want = expected((0..20).map(|n| record(&function, n)));
    assert_eq!(all(&ledger), want);
    drop(ledger);
    assert_eq!(all(&open(&folder)), want);
}

#[test]
fn a_full_segment_is_rolled_up_by_the_flusher_and_raw_records_are_bounded() {
    let dir = tempdir().unwrap();
    let mut options = LedgerOptions::new(dir.path());
    options.flush_interval = Duration::from_millis(1);
    options.segment_bytes = 1;
    options.retain.bytes = 1000;
    let ledger = Ledger::open(options).unwrap();
    let function = spec("one");
    for n in 0..30 {
        ledger.record(record(&function, n));
        if n % 10 == 9 {
            // The flusher alone must bring the segments to the days' sums.
            while ledger.inner.folder.segments().unwrap() != Vec::<String>::new() {
                std::thread::yield_now();
            }
        }
    }
    let recomputed = ledger.recompute().unwrap();
    assert_eq!(all(&ledger), expected((0..30).map(|n| record(&function, n))));
    assert_eq!(recomputed.mended, Vec::<String>::new());
    let raw_bytes: u64 = fs::read_dir(dir.path().join("raw"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(raw_bytes <= 1000, "{raw_bytes}");
}

#[test]
fn two_processes_share_the_folder() {
    let dir = tempdir().unwrap();
    let (old, new) = (open(dir.path()), open(dir.path()));
    let function = spec("one");
    (0..10).for_each(|n| old.record(record(&function, n)));
    (10..30).for_each(|n| new.record(record(&function, n)));
    old.flush().unwrap();
    new.flush().unwrap();
    let want = expected((0..30).map(|n| record(&function, n)));
    assert_eq!(all(&old), want);
    assert_eq!(all(&new), want);
    old.close().unwrap();
    assert_eq!(all(&new), want);
    new.recompute().unwrap();
    assert_eq!(all(&new), want);
}

#[test]
fn threads_record_while_sums_are_read_and_rolled_up() {
    let dir = tempdir().unwrap();
    let mut options = LedgerOptions::new(dir.path());
    options.flush_interval = Duration::from_millis(1);
    options.segment_bytes = 2_000;
    let ledger = Ledger::open(options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || {
                let function = spec(["a", "b", "c", "d"][thread]);
                (0..2_000).for_each(|n| ledger.record(record(&function, n)));
            });
        }
        let mut last = 0;
        while last < 8_000 {
            let sum = requests(&all(&ledger));
            assert!((last..=8_000).contains(&sum), "{last} then {sum}");
            last = sum;
        }
    });
    ledger.close().unwrap();
    assert_eq!(requests(&all(&ledger)), 8_000);
}

/// Not a test of its own: the child of the next one, which kills it.
#[test]
fn child_that_records_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let mut options = LedgerOptions::new(dir);
    options.flush_interval = Duration::from_millis(1);
    options.segment_bytes = 4_000;
    let ledger = Ledger::open(options).unwrap();
    let function = spec("one");
    for n in 0.. {
        ledger.record(record(&function, n));
        if n % 50 == 0 {
            ledger.flush().unwrap();
            // What was flushed is promised: the parent counts these lines.
            println!("flushed {}", n + 1);
        }
    }
}

#[test]
fn kill_9_loses_nothing_that_was_flushed() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let dir = tempdir().unwrap();
    let mut promised = 0;
    for round in 1..=6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "ledger::tests::child_that_records_until_it_is_killed",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut flushed = 0;
        let mut seen = 0;
        while seen < round * 9 {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some((_, count)) = line.rsplit_once("flushed ") {
                flushed = count.parse().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some((_, count)) = line.rsplit_once("flushed ") {
                flushed = count.parse().unwrap_or(flushed);
            }
        }
        promised += flushed;
        let ledger = open(dir.path());
        let rows = all(&ledger);
        assert!(requests(&rows) >= promised, "{} of {promised}", requests(&rows));
        // More than promised is right too: the flusher wrote it before the kill.
        promised = requests(&rows);
        ledger.recompute().unwrap();
        assert_eq!(all(&ledger), rows);
    }
}
