//! Columns of text, aligned. Knows how wide characters are, and lets none of them play tricks on a terminal.

use unicode_width::UnicodeWidthStr;

/// What a cell shows where there is nothing to show.
pub(crate) const NOTHING: &str = "-";

const GAP: &str = "  ";

/// The rows below their header, every column as wide as its widest cell.
pub(crate) fn table<const COLUMNS: usize>(header: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    let rows: Vec<_> =
        std::iter::once(header.map(str::to_owned)).chain(rows.into_iter().map(|row| row.map(printable))).collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.width())));
    let mut line = padded.collect::<Vec<_>>().join(GAP);
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// `text` on one line: line ends become blanks, and all else that would move the cursor or colour the screen is spelled out.
pub(crate) fn printable(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    if text.is_empty() {
        return NOTHING.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\n' | '\r' | '\t') {
            // Envoy's complaints have several lines.
            out.push(' ');
        } else if c.is_control() || reorders(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether `c` changes the direction or the line of the text around it (Unicode's bidirectional controls).
const fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2]) -> [String; 2] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let text = table(["A", "LONG HEADER"], vec![row(["a long cell", "b"]), row(["c", ""])]);
        assert_eq!(text, "A            LONG HEADER\na long cell  b\nc            -\n");
    }

    #[test]
    fn wide_and_combining_characters_keep_the_columns_aligned() {
        let text = table(["A", "B"], vec![row(["日本", "x"]), row(["e\u{301}", "x"]), row(["abcd", "x"])]);
        let columns: Vec<_> = text.lines().skip(1).map(|line| line.split('x').next().unwrap().width()).collect();
        assert_eq!(columns, [6, 6, 6]);
    }

    #[test]
    fn a_cell_can_neither_break_its_line_nor_drive_the_terminal() {
        assert_eq!(printable("a\nb\u{1b}[31m\u{9b}\u{202e}"), "a b\\u{1b}[31m\\u{9b}\\u{202e}");
    }
}
