//! `scripts/demo`: a Docker host of its own, a tour through what it does, and then the host to play with.
//!
//! The tour is in `tour`, and every sentence in it is checked before it is printed: if something does not
//! happen, the tour ends there, with the logs. `--once` ends after the tour.

mod playground;
mod story;
mod tour;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use nix::sys::signal::{SigSet, Signal};

use story::Story;

/// Whether somebody asked to stop.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let once = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--once"] => true,
        _ => {
            eprintln!("demo: unknown arguments {arguments:?}: there is --once alone");
            return ExitCode::from(2);
        }
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("demo: makes network namespaces, so it needs root: sudo scripts/demo");
        return ExitCode::FAILURE;
    }
    let stopped = watch_signals();
    let story = Story::new();
    let Some(stage) = tour::run(&story) else {
        story.title("Stopped; everything is cleaned up.");
        return ExitCode::from(130);
    };
    if once {
        drop(stage);
        story.title("The tour is over, every step happened, and everything is cleaned up.");
        return ExitCode::SUCCESS;
    }
    story.title("The host is yours");
    story.say(&stage.hints());
    story.title("Ctrl-C ends it.");
    let _ = stopped.recv();
    drop(stage);
    story.title("Everything is cleaned up.");
    ExitCode::SUCCESS
}

/// Whether the tour is to end here.
fn asked_to_stop() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// From now on, Ctrl-C and SIGTERM are a request: the tour ends after its step, and cleans up. The receiver
/// hears of it.
fn watch_signals() -> mpsc::Receiver<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().expect("signals can be blocked");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = signals.wait();
        STOP.store(true, Ordering::Relaxed);
        let _ = sender.send(());
        // Who asks twice is in a hurry. The kernel ends what runs in the namespaces.
        let _ = signals.wait();
        std::process::exit(130);
    });
    receiver
}
