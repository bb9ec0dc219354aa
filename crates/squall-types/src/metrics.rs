//! The Prometheus text format, as every room writes it.

use std::fmt::{Display, Write as _};

/// Appends what a metric is; its samples follow.
pub fn write_head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Appends a metric without labels.
pub fn write_metric(out: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    write_head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}
