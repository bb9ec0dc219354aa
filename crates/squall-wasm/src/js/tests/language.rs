//! What the engine does in ways of its own, against what it must be.

use squall_types::limits::Limits;

use super::{bench, on_a_core};

/// Enough for checks that try very many things in one request.
fn generous() -> Limits {
    Limits { cpu_time_ms: 60_000, ..Limits::default() }
}

#[test]
fn json_is_what_upstream_makes_of_it() {
    let bench = bench(include_str!("json.js"), generous());
    on_a_core(async {
        let once = ["/units", "/shapes", "/sideEffects"].map(str::to_owned);
        let many = (0..10).flat_map(|seed| [format!("/texts/{seed}"), format!("/values/{seed}")]);
        for path in once.into_iter().chain(many) {
            assert_eq!(bench.call(&path, "").await.unwrap(), "same", "{path}");
        }
    });
}

#[test]
fn regular_expressions_match_what_upstream_matches() {
    let bench = bench(include_str!("regexp.js"), generous());
    on_a_core(async {
        let random = (0..5).map(|seed| format!("/random/{seed}"));
        for path in random.chain(["/changed".to_owned()]) {
            assert_eq!(bench.call(&path, "").await.unwrap(), "same", "{path}");
        }
    });
}

#[test]
fn strings_are_put_together_from_all_their_units() {
    let bench = bench(include_str!("strings.js"), generous());
    on_a_core(async {
        for seed in 0..5 {
            assert_eq!(bench.call(&format!("/{seed}"), "").await.unwrap(), "same", "{seed}");
        }
    });
}

/// `toFixed` beside integers that are large enough to be exact.
const FIXED: &str = r#"
const float = new Float64Array(1);
const bits = new BigUint64Array(float.buffer);
function exactly(value, places) {
  float[0] = Math.abs(value);
  const biased = bits[0] >> 52n;
  const mantissa = (bits[0] & 0xfffffffffffffn) + (biased > 0n ? 1n << 52n : 0n);
  const exponent = (biased > 0n ? biased : 1n) - 1075n;
  const scaled = mantissa * 10n ** BigInt(places);
  const whole = exponent >= 0n ? scaled << exponent : (scaled + (1n << (-exponent - 1n))) >> -exponent;
  const digits = whole.toString().padStart(places + 1, "0");
  const point = digits.length - places;
  return (value < 0 ? "-" : "") + digits.slice(0, point) + (places > 0 ? `.${digits.slice(point)}` : "");
}
export default {
  async fetch(request) {
    for (const text of (await request.text()).split(" ")) {
      for (const places of [0, 1, 2, 3, 6, 12, 15, 16, 30]) {
        const value = Number(text);
        if (Math.abs(value) >= 1e21) continue;
        const [found, expected] = [value.toFixed(places), exactly(value, places)];
        if (found !== expected) return new Response(`(${text}).toFixed(${places}): ${found}, not ${expected}`);
      }
    }
    return new Response("same");
  },
};
"#;

#[test]
fn numbers_are_fixed_to_exactly_rounded_places() {
    let bench = bench(FIXED, generous());
    let mut random = random();
    let edges = "0 -0 0.5 1.5 2.5 -2.5 0.05 0.15 1.005 1.45 8.345 -0.001 999.995 999999999999.9995 \
                 1e-10 5e-324 123456789012345.67 999999999999999.9 1e20 -1.5e15 4503599627370495.5";
    let mut texts: Vec<String> = edges.split_whitespace().map(str::to_owned).collect();
    for _ in 0..10_000 {
        let halves = (random() % 1_000_000) as f64 / f64::from(1_u32 << (random() % 20));
        let cents = (random() % 1_000_000_000_000) as f64 / 10_f64.powi((random() % 16) as i32);
        texts.extend([format!("{halves}"), format!("-{cents}"), format!("{:e}", cents * 1e-12)]);
    }
    on_a_core(async {
        assert_eq!(bench.call("/", &texts.join(" ")).await.unwrap(), "same");
    });
}

/// The same numbers every time, by xorshift.
fn random() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// A hundred thousand keys of a kind; with all of them in one bucket it would take minutes of CPU time.
const KEYS: &str = r#"
const kinds = {
  integers: (at) => at,
  halves: (at) => at + 0.5,
  objects: (at) => ({ at }),
  symbols: (at) => Symbol(at),
  strings: (at) => `key ${at}`,
};
export default {
  fetch() {
    const wrong = Object.entries(kinds).filter(([, make]) => {
      const keys = Array.from({ length: 100_000 }, (_, at) => make(at));
      const map = new Map(keys.map((key, at) => [key, at]));
      return map.size !== keys.length || !keys.every((key, at) => map.get(key) === at);
    });
    return new Response(`wrong: ${wrong.map(([kind]) => kind)}`);
  },
};
"#;

#[test]
fn maps_find_keys_of_every_kind_in_time() {
    let limits = Limits { cpu_time_ms: 20_000, memory_bytes: 512 << 20, ..Limits::default() };
    let bench = bench(KEYS, limits);
    on_a_core(async {
        assert_eq!(bench.call("/", "").await.unwrap(), "wrong: ");
    });
}

/// Answers each line of the body with the bits of that number as JSON and as `Number` read it,
/// and with its form as `String` and as JSON write it.
const NUMBERS: &str = r#"
const float = new Float64Array(1);
const halves = new Uint32Array(float.buffer);
const hex = (half) => half.toString(16).padStart(8, "0");
const bits = (number) => { float[0] = number; return hex(halves[1]) + hex(halves[0]); };
export default {
  async fetch(request) {
    const texts = (await request.text()).split("\n");
    const numbers = JSON.parse(`[${texts}]`);
    const answers = texts.map((text, at) =>
      `${bits(numbers[at])} ${bits(Number(text))} ${String(numbers[at])} ${JSON.stringify(numbers[at])}`);
    return new Response(answers.join("\n"));
  },
};
"#;

/// Where one way ends and the next begins.
const EDGES: &str = "
    0 -0 0.0 -0.0e5 1e22 1e23 1e-22 1e-23 9007199254740992 9007199254740993 9007199254740994
    2147483647 2147483648 -2147483648 -2147483649 999999999999999 1000000000000000 0.001 0.000999
    1e-6 1e-7 5e-324 2e-324 1.7976931348623157e308 1e309 0.1 0.3 4.35 1.005 1234567890123456789
    12345678901234567890 0.000000000000000000001 123456.789e-30";

fn significant_digits(text: &str) -> String {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_start_matches('0').trim_end_matches('0').to_owned()
}

fn check_numbers(answers: &str, texts: &[String]) {
    for (answer, text) in answers.split('\n').zip(texts) {
        let number: f64 = text.parse().unwrap();
        let parts: Vec<&str> = answer.split(' ').collect();
        let [as_json, as_number, string, json] = parts[..] else { panic!("{text}: {answer}") };
        let bits = format!("{:016x}", number.to_bits());
        assert_eq!((as_json, as_number), (&*bits, &*bits), "{text}");
        if number.is_infinite() {
            assert_eq!(json, "null", "{text}");
            continue;
        }
        assert_eq!(string, json, "{text}");
        assert_eq!(string.parse::<f64>().unwrap(), number, "{text} is written as {string}");
        let shortest = significant_digits(&format!("{number:e}"));
        let digits = significant_digits(string);
        assert_eq!(digits.len(), shortest.len(), "{text} is written as {string}");
    }
}

#[test]
fn numbers_are_read_exactly_and_written_in_their_shortest_form() {
    let bench = bench(NUMBERS, generous());
    let mut random = random();
    let mut texts: Vec<String> = EDGES.split_whitespace().map(str::to_owned).collect();
    for _ in 0..20_000 {
        let decimal = (random() % 1_000_000_000_000_000) as f64;
        let short = decimal / 10_f64.powi((random() % 18) as i32);
        let any = f64::from_bits(random());
        let any = if any.is_finite() { any } else { 0.5 };
        texts.push(format!("{short}"));
        texts.push(format!("-{:.*}", (random() % 14) as usize, short));
        texts.push(format!("{any:e}"));
        texts.push(format!("{}.{}e{}", random() % 1000, random(), (random() % 640) as i64 - 320));
        texts.push(format!("{}", random() as i64 >> (random() % 64)));
    }
    on_a_core(async {
        for texts in texts.chunks(5_000) {
            check_numbers(&bench.call("/", &texts.join("\n")).await.unwrap(), texts);
        }
    });
}
