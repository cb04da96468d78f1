//! The layout of the view: progress, failed jobs, running jobs.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Gauge, Paragraph, Row, Table};

use super::snapshot::{FailedRow, RunningRow, Snapshot};
use crate::duration;

/// In fewer columns a running job has two lines, and the second is its output.
const WIDE: u16 = 60;

pub(super) fn draw(frame: &mut Frame<'_>, shown: &Snapshot<'_>) {
    let area = frame.area();
    // Failed jobs have at most a third of the screen.
    let failed_lines = match shown.failed.len() {
        0 => 0,
        failed => (failed + 1).min(usize::from(area.height / 3)) as u16,
    };
    let [head, bar, failed, running] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(failed_lines),
        Constraint::Min(0),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(headline(shown)), head);
    draw_bar(frame, bar, shown);
    draw_failed(frame, failed, shown);
    draw_running(frame, running, &shown.running);
}

fn headline(shown: &Snapshot<'_>) -> Line<'static> {
    let counts = &shown.counts;
    let failed = match counts.failed {
        0 => Style::new(),
        _ => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    };
    Line::from(vec![
        Span::raw(format!(
            "{} running, {} done, ",
            counts.running, counts.done
        )),
        Span::styled(format!("{} failed", counts.failed), failed),
        Span::raw(format!("  {}", duration::show(shown.elapsed))),
    ])
}

fn draw_bar(frame: &mut Frame<'_>, area: Rect, shown: &Snapshot<'_>) {
    let counts = &shown.counts;
    let Some(expected) = counts.expected.filter(|&expected| expected > 0) else {
        let text = "the length of the list is not known yet";
        return frame.render_widget(Paragraph::new(text).style(dim()), area);
    };
    let ratio = (counts.done as f64 / expected as f64).clamp(0.0, 1.0);
    let gauge = Gauge::default()
        .ratio(ratio)
        .label(format!("{}/{expected}", counts.done))
        .gauge_style(Style::new().fg(Color::Green));
    frame.render_widget(gauge, area);
}

fn draw_failed(frame: &mut Frame<'_>, area: Rect, shown: &Snapshot<'_>) {
    let rows = usize::from(area.height.saturating_sub(1));
    if area.height == 0 {
        return;
    }
    let title = format!("failed, the last {rows} of {}", shown.counts.failed);
    let mut lines = vec![Line::styled(title, bold())];
    let skipped = shown.failed.len().saturating_sub(rows);
    lines.extend(shown.failed.iter().skip(skipped).map(failed_line));
    frame.render_widget(Paragraph::new(lines), area);
}

fn failed_line(row: &FailedRow) -> Line<'_> {
    Line::from(vec![
        Span::styled(format!("{:>6} ", row.job), Style::new().fg(Color::Red)),
        Span::raw(format!("{}: ", row.result)),
        Span::styled(row.command.as_str(), dim()),
    ])
}

fn draw_running(frame: &mut Frame<'_>, area: Rect, rows: &[RunningRow]) {
    let [title, area] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new("running").style(bold()), title);
    let wide = area.width >= WIDE;
    let rows = rows.iter().map(|row| {
        let command = match row.attempt {
            1 => row.command.clone(),
            attempt => format!("{} (attempt {attempt})", row.command),
        };
        let start = [row.job.to_string(), duration::show(row.since)];
        let start = start.map(|text| Cell::from(Line::from(text).right_aligned()));
        let last_line = Line::styled(row.last_line.as_str(), dim());
        match wide {
            true => Row::new(start.into_iter().chain([command.into(), last_line.into()])),
            false => {
                let text = Text::from(vec![Line::from(command), last_line]);
                Row::new(start.into_iter().chain([text.into()])).height(2)
            }
        }
    });
    let columns: &[_] = match wide {
        true => &[
            Constraint::Length(7),
            Constraint::Length(9),
            Constraint::Fill(2),
            Constraint::Fill(3),
        ],
        false => &[
            Constraint::Length(5),
            Constraint::Length(8),
            Constraint::Fill(1),
        ],
    };
    frame.render_widget(Table::new(rows, columns.iter().copied()), area);
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}
