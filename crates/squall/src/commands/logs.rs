//! The log: its newest lines, and new ones as they come.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use squall_types::log::{Level, LogEntry};

use super::connect;
use crate::cli::{Global, LogsOptions};
use crate::client::{Client, Events, Query};
use crate::failure::{Exit, Failure};
use crate::target::Target;
use crate::{output, time};

const WHAT: &str = "reading logs";
/// How far a new connection looks back for what was missed while there was none.
const CATCH_UP_LINES: usize = 500;
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

pub(super) async fn run(global: &Global, options: &LogsOptions) -> Result<(), Failure> {
    let client = connect(global)?;
    let filter = Filter {
        app: options.app.as_ref().map(|app| app.to_string()),
        function: options.function.as_ref().map(|function| function.to_string()),
        level: options.level.map(|level| level.as_str()),
        status: options.status.clone(),
        trace: options.trace.clone(),
    };
    let printer = Printer::new(global.json);
    if options.follow {
        return follow(&client, &filter, options.lines, &printer).await;
    }
    let query = filter.query("/v1/logs").with("limit", Some(&options.lines.to_string()));
    let answer: Value = client.get(WHAT, query.as_str()).await?;
    for entry in answer["items"].as_array().into_iter().flatten() {
        printer.print(entry);
    }
    Ok(())
}

/// Which lines are wanted.
#[derive(Debug, Default)]
pub(super) struct Filter {
    app: Option<String>,
    function: Option<String>,
    level: Option<&'static str>,
    status: Option<String>,
    trace: Option<String>,
}

impl Filter {
    pub(super) fn of_app(app: &str) -> Self {
        Self { app: Some(app.to_owned()), ..Self::default() }
    }

    fn query(&self, path: &str) -> Query {
        Query::new(path)
            .with("app", self.app.as_deref())
            .with("function", self.function.as_deref())
            .with("level", self.level)
            .with("status", self.status.as_deref())
            .with("trace_id", self.trace.as_deref())
    }
}

/// Prints lines as they come, over lost connections and restarts of the node. Ends only
/// with an error that trying again does not mend.
pub(super) async fn follow(
    client: &Client,
    filter: &Filter,
    lines: usize,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut seen = Seen::default();
    let mut tail = lines;
    let mut pause = RETRY_FIRST;
    let mut connected_once = false;
    let mut said = false;
    let mut client = client.clone();
    loop {
        let path = filter.query("/v1/logs/stream").with("tail", Some(&tail.to_string()));
        let ended = match client.lines(WHAT, Method::GET, path.as_str(), None).await {
            Ok(stream) => {
                if said {
                    output::note("… connected again");
                }
                (connected_once, said, pause) = (true, false, RETRY_FIRST);
                let mut events = Events::new(stream);
                read(&mut events, &mut seen, printer).await
            }
            Err(failure) => failure,
        };
        let hopeless = matches!(ended.exit, Exit::Auth | Exit::Invalid);
        if hopeless || !connected_once {
            return Err(ended);
        }
        if !said {
            output::note("… the connection was lost; connecting again");
            said = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
        tail = CATCH_UP_LINES;
        seen.catch_up();
        // A node on this machine may have come back on another port.
        if let Some(data_dir) = &client.target().data_dir
            && let Ok(again) = Target::local(data_dir).and_then(Client::new)
        {
            client = again;
        }
    }
}

/// Reads until the connection ends; says how it ended.
async fn read(events: &mut Events, seen: &mut Seen, printer: &Printer) -> Failure {
    loop {
        let event = match events.next(WHAT).await {
            Ok(Some(event)) => event,
            Ok(None) => return Failure::failed(WHAT, "the node ended the stream"),
            Err(failure) => return failure,
        };
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else { continue };
        match event.name.as_str() {
            "entry" if seen.is_new(&data) => printer.print(&data),
            "dropped" => {
                let number = data["count"].as_u64().unwrap_or(0);
                output::note(&format!("… {} lines were dropped", output::count(number)));
            }
            _ => {}
        }
    }
}

/// What was shown already, so that a new connection repeats nothing.
#[derive(Default)]
struct Seen {
    /// When the newest line was written.
    newest: String,
    recent: HashSet<String>,
    order: VecDeque<String>,
    catching_up: bool,
}

impl Seen {
    fn catch_up(&mut self) {
        self.catching_up = true;
    }

    fn is_new(&mut self, entry: &Value) -> bool {
        let at = entry["at"].as_str().unwrap_or_default();
        let line = entry.to_string();
        // Times of one format compare as text.
        if self.catching_up && (at < self.newest.as_str() || self.recent.contains(&line)) {
            return false;
        }
        if at > self.newest.as_str() {
            at.clone_into(&mut self.newest);
        }
        if self.order.len() == CATCH_UP_LINES
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        if self.recent.insert(line.clone()) {
            self.order.push_back(line);
        }
        true
    }
}

/// Prints entries as JSON or for a person.
pub(super) struct Printer {
    json: bool,
    colours: bool,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, colours: output::colours(&std::io::stdout()) }
    }

    fn print(&self, entry: &Value) {
        if self.json {
            output::line(&entry.to_string());
            return;
        }
        match serde_json::from_value::<LogEntry>(entry.clone()) {
            Ok(entry) => output::line(&human(&entry, self.colours)),
            // A newer node may write what this version does not know.
            Err(_) => output::line(&entry.to_string()),
        }
    }
}

fn human(entry: &LogEntry, colours: bool) -> String {
    const DIM: &str = "2";
    let paint = |code: &str, text: &str| {
        if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let (level, colour) = match entry.level {
        Level::Debug => ("DEBUG", "2"),
        Level::Info => ("INFO ", "32"),
        Level::Warn => ("WARN ", "33"),
        Level::Error => ("ERROR", "31"),
    };
    let mut line = paint(DIM, &time::local_clock(&entry.at));
    let _ = write!(line, " {}", paint(colour, level));
    let origin = match (&entry.app, &entry.function) {
        (Some(app), Some(function)) => format!("{app}/{function}"),
        (Some(app), None) => app.clone(),
        _ => "squall".to_owned(),
    };
    let _ = write!(line, " {}  {}", paint("36", &origin), printable(&entry.message));
    if let Some(code) = &entry.code {
        let _ = write!(line, " {}", paint(colour, &format!("[{code}]")));
    }
    // What a program prints of a request is found again by the request's id, too.
    if !entry.trace_id.is_empty() {
        let _ = write!(line, " {}", paint(DIM, &format!("trace={}", entry.trace_id)));
    }
    line
}

/// Control characters come from functions and from clients' requests; none of them may
/// reach the terminal.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.trim_end_matches(['\n', '\r']).chars() {
        match character {
            '\t' => safe.push(character),
            '\n' => safe.push_str("\n    "),
            _ if character.is_control() => safe.extend(character.escape_default()),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use squall_types::log::{AccessFields, Source};

    use super::*;

    fn entry() -> LogEntry {
        LogEntry {
            at: "not a time".to_owned(),
            level: Level::Warn,
            source: Source::Platform,
            app: Some("shop".to_owned()),
            function: Some("api".to_owned()),
            revision: None,
            message: "too \u{1b}[31mmuch\nof it\n".to_owned(),
            code: Some("SQ0203".to_owned()),
            trace_id: "0af7".to_owned(),
            span_id: "b7ad".to_owned(),
            status: None,
            duration_us: None,
            access: AccessFields::default(),
        }
    }

    #[test]
    fn lines_are_readable_and_can_not_play_with_the_terminal() {
        assert_eq!(
            human(&entry(), false),
            "not a time WARN  shop/api  too \\u{1b}[31mmuch\n    of it [SQ0203] trace=0af7"
        );
        assert!(human(&entry(), true).contains("\u{1b}[33mWARN \u{1b}[0m"));
        let bare =
            LogEntry { app: None, function: None, code: None, trace_id: String::new(), ..entry() };
        assert_eq!(human(&bare, false), "not a time WARN  squall  too \\u{1b}[31mmuch\n    of it");
    }

    #[test]
    fn a_new_connection_repeats_nothing_and_misses_nothing() {
        let line = |at: &str, message: &str| json!({ "at": at, "message": message });
        let mut seen = Seen::default();
        assert!(seen.is_new(&line("2026-01-01T00:00:01.000Z", "a")));
        assert!(seen.is_new(&line("2026-01-01T00:00:01.000Z", "a")), "the same line twice is two");
        seen.catch_up();
        assert!(!seen.is_new(&line("2026-01-01T00:00:00.500Z", "older")));
        assert!(!seen.is_new(&line("2026-01-01T00:00:01.000Z", "a")));
        assert!(seen.is_new(&line("2026-01-01T00:00:01.000Z", "b")));
        assert!(seen.is_new(&line("2026-01-01T00:00:02.000Z", "c")));
    }

    #[test]
    fn filters_become_a_query() {
        let filter = Filter { app: Some("shop".into()), level: Some("warn"), ..Filter::default() };
        assert_eq!(filter.query("/v1/logs").as_str(), "/v1/logs?app=shop&level=warn");
    }
}
