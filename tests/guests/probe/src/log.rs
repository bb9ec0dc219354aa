//! Lines on the standard streams.

use wasip2::io::streams::OutputStream;

use crate::http::write_all;

/// Length of a line of `flood`, with its end.
const LINE_BYTES: usize = 100;

fn print(stream: &OutputStream, text: &str) {
    // A host that cuts the log closes the stream; the function goes on.
    let _ = write_all(stream, text.as_bytes());
}

pub(crate) fn stderr(text: &str) {
    print(&wasip2::cli::stderr::get_stderr(), text);
}

/// Writes `lines` numbered lines of 100 bytes to the standard output.
pub(crate) fn flood(lines: u64) {
    let stream = wasip2::cli::stdout::get_stdout();
    for n in 1..=lines {
        let mut line = format!("line {n} ");
        while line.len() < LINE_BYTES - 1 {
            line.push('.');
        }
        line.push('\n');
        print(&stream, &line);
    }
}
