//! Questions to the operating system about processes.

use rustix::process::{Pid, Signal};

/// Whether a process with this id runs, ours or not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Some(id) = parse(pid) else { return false };
    // A refusal means that it is there and belongs to somebody else.
    let there = !matches!(rustix::process::test_kill_process(id), Err(rustix::io::Errno::SRCH));
    there && !is_zombie(pid)
}

/// A process that has ended stays in the table until its parent has asked how.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the state follows the last of them.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, signal: Signal) -> std::io::Result<()> {
    let pid = parse(pid).ok_or_else(|| std::io::Error::other("not a process id"))?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn parse(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_is_not_alive() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(0) && !is_alive(u32::MAX));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        // Nobody has asked how it ended yet.
        for _ in 0..500 {
            if !is_alive(child.id()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!is_alive(child.id()));
        child.wait().unwrap();
    }
}
