//! A function that does, on demand, everything that a host has to cope with: it
//! streams, burns CPU, grows, floods the log, sleeps, traps, calls out, and searches
//! its own memory for what others left behind.
//!
//! Each path is one behaviour; `/` lists them.

mod http;
mod log;
mod memory;
mod outbound;
mod sort;
mod work;

use crate::http::Exchange;

struct Probe;

wasip2::http::proxy::export!(Probe);

const INDEX: &str = "squall probe\n\
    /echo /spin?ms= /loop /grow /alloc?mb= /endless /logs?n= /stderr /sleep?ms= /trap /exit\n\
    /noresponse /env /headers /fetch?url= /fetchmany?n=&url= /leak /leak?set= /count /trailers\n\
    /sort /random /time /sse\n";

impl wasip2::exports::http::incoming_handler::Guest for Probe {
    fn handle(
        request: wasip2::http::types::IncomingRequest,
        answer: wasip2::http::types::ResponseOutparam,
    ) {
        let exchange = Exchange::new(request, answer);
        match exchange.path() {
            "/" => exchange.text(200, INDEX),
            "/echo" => http::echo(exchange),
            "/spin" => {
                work::spin(exchange.number("ms", 1));
                exchange.text(200, "spun\n");
            }
            "/loop" => work::never_end(),
            "/grow" => memory::grow_until_refused(),
            "/alloc" => {
                let megabytes = exchange.number("mb", 1);
                let sum = memory::allocate(megabytes);
                exchange.text(200, &format!("touched {megabytes} MiB, sum {sum}\n"));
            }
            "/endless" => http::endless(exchange),
            "/logs" => {
                log::flood(exchange.number("n", 10));
                exchange.text(200, "logged\n");
            }
            "/stderr" => {
                log::stderr("a line on standard error\n");
                exchange.text(200, "logged\n");
            }
            "/sleep" => {
                work::sleep(exchange.number("ms", 100));
                exchange.text(200, "slept\n");
            }
            "/trap" => core::arch::wasm32::unreachable(),
            "/exit" => wasip2::cli::exit::exit(Err(())),
            "/noresponse" => drop(exchange),
            "/env" => {
                let variables: std::collections::BTreeMap<String, String> =
                    wasip2::cli::environment::get_environment().into_iter().collect();
                exchange.json(200, &variables);
            }
            "/headers" => {
                let headers = exchange.headers();
                exchange.json(200, &headers);
            }
            "/fetch" => outbound::fetch(exchange),
            "/fetchmany" => outbound::fetch_many(exchange),
            "/leak" => memory::leak(exchange),
            "/count" => exchange.text(200, &format!("{}\n", memory::count())),
            "/trailers" => http::trailers(exchange),
            "/sort" => sort::sort(exchange),
            "/random" => {
                let bytes = wasip2::random::random::get_random_bytes(16);
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                exchange.text(200, &format!("{hex}\n"));
            }
            "/time" => {
                let now = wasip2::clocks::wall_clock::now();
                let ms = now.seconds * 1000 + u64::from(now.nanoseconds / 1_000_000);
                exchange.text(200, &format!("{ms}\n"));
            }
            "/sse" => http::server_sent_events(exchange),
            _ => exchange.text(404, "no such path; / lists them\n"),
        }
    }
}
