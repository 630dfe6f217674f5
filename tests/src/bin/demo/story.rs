//! What the tour prints: steps, commands and what came of them. Plain text; steps stand out on a terminal.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU32, Ordering};

/// The teller of one tour.
#[derive(Debug)]
pub(crate) struct Story {
    steps: AtomicU32,
    emphasis: bool,
}

impl Story {
    /// Emphasis only where somebody looks, and does not mind (no-color.org).
    pub(crate) fn new() -> Self {
        let emphasis = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Self { steps: AtomicU32::new(0), emphasis }
    }

    /// The next step begins.
    pub(crate) fn step(&self, title: &str) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.title(&format!("{number}. {title}"));
    }

    /// A title without a number.
    pub(crate) fn title(&self, title: &str) {
        let (bold, plain) = if self.emphasis { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("\n{bold}{title}{plain}");
    }

    /// Something to know.
    pub(crate) fn say(&self, text: &str) {
        text.lines().for_each(|line| println!("   {line}"));
    }

    /// A command, before it runs.
    pub(crate) fn command(&self, command: &str) {
        println!("   $ {command}");
    }

    /// What a command printed.
    pub(crate) fn output(&self, text: &str) {
        text.lines().for_each(|line| println!("     {line}"));
    }
}
