//! Reports as a page that a person can hand to an auditor: one file, which loads nothing and runs nothing.

use jiff::tz::TimeZone;

use super::keep::SignedDrill;
use super::report::{DrillReport, Verdict};
use crate::display::{Bytes, Elapsed, clock_time};

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">
<meta name=\"viewport\" content=\"width=device-width\"><title>Lifeboat: drills</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { border-bottom: 1px solid #ccc; padding: .2em .8em .2em 0; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } .passed { color: #064 } .failed { color: #a00 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; border: 1px solid #ccc; padding: 1em }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } .passed { color: #6d9 } .failed { color: #f88 } }
</style></head><body>
";

const PROOF: &str = "The text below is the report exactly as it was signed. The signature is Ed25519, by the key of the \
                     writer who drilled, over the line \u{201c}lifeboat 1 drill report\u{201d} with its newline and that text.";

/// The page with these drills; times are those of `zone`.
#[must_use]
pub fn drill_page(drills: &[(DrillReport, SignedDrill)], zone: &TimeZone) -> String {
    let mut page = HEAD.to_owned();
    for (report, signed) in drills {
        one(&mut page, report, signed, zone);
    }
    page.push_str("</body></html>\n");
    page
}

fn one(page: &mut String, report: &DrillReport, signed: &SignedDrill, zone: &TimeZone) {
    let (class, verdict) = match report.verdict {
        Verdict::Passed => ("passed", "passed"),
        Verdict::Failed => ("failed", "found a problem with the backup"),
    };
    let time = |ms: u64| clock_time(ms, zone);
    let lasting = |ms: u64| Elapsed(std::time::Duration::from_millis(ms)).to_string();
    page.push_str(&format!(
        "<h1>Drill of {}: <span class=\"{class}\">{verdict}</span></h1>\n",
        escaped(&report.app)
    ));
    let zone_name = zone.iana_name().unwrap_or("UTC");
    facts(
        page,
        &[
            ("Snapshot", report.snapshot.clone()),
            (
                "Taken",
                format!("{} on {}", time(report.snapshot_ms), report.snapshot_host),
            ),
            (
                "Drilled",
                format!("{} on {}", time(report.started_ms), report.host),
            ),
            ("Times are of", zone_name.to_owned()),
            ("Time to recovery", lasting(report.restore_ms)),
            ("By", report.program.clone()),
        ],
    );
    for (title, sentences) in [
        ("Problems", &report.problems),
        ("Warnings", &report.warnings),
    ] {
        if !sentences.is_empty() {
            page.push_str(&format!("<h2>{title}</h2><ul>\n"));
            for sentence in sentences {
                page.push_str(&format!("<li>{}</li>\n", escaped(sentence)));
            }
            page.push_str("</ul>\n");
        }
    }
    let steps = report.steps.iter().map(|step| {
        vec![
            step.what.clone(),
            step.result.clone(),
            lasting(step.elapsed_ms),
        ]
    });
    table(page, "What was done", &["Step", "Result", "Time"], steps);
    let checks = report.checks.iter().map(|check| {
        let holds = if check.holds { "yes" } else { "no" };
        vec![
            check.check.clone(),
            holds.to_owned(),
            lasting(check.elapsed_ms),
        ]
    });
    table(page, "Questions", &["Question", "Holds", "Time"], checks);
    let references = report.references.iter().map(|one| {
        let numbers = [
            one.references,
            one.files,
            one.missing,
            one.differing,
            one.no_files,
            one.orphans,
        ];
        let mut cells = vec![one.source.clone()];
        cells.extend(numbers.map(|number| number.to_string()));
        cells
    });
    table(
        page,
        "Rows and the files that they name",
        &[
            "Folder",
            "Values",
            "Files",
            "Missing",
            "Of another size",
            "No files",
            "Named by no row",
        ],
        references,
    );
    let files = report.files;
    page.push_str(&format!(
        "<p>{} files with {}; {} were held against a SHA-256 of the app; {} secrets were read and not written.</p>\n",
        files.files,
        Bytes(files.bytes),
        files.hashed,
        files.secrets
    ));
    for database in &report.databases {
        let title = format!(
            "{}: {} rows in {}, {} foreign keys hold",
            database.source, database.rows, database.server, database.foreign_keys
        );
        let tables = database.tables.iter().flatten().map(|one| {
            let expected = one
                .expected
                .map_or_else(|| "–".to_owned(), |rows| rows.to_string());
            vec![one.table.clone(), one.rows.to_string(), expected]
        });
        table(page, &title, &["Table", "Rows", "In the snapshot"], tables);
    }
    page.push_str(&format!("<h2>Proof</h2><p>{PROOF}</p>\n"));
    facts(
        page,
        &[
            ("SHA-256", signed.sha256.clone()),
            ("Writer", signed.writer.clone()),
            ("Public key", signed.public_key.clone()),
            ("Signature", signed.signature.clone()),
        ],
    );
    page.push_str(&format!("<pre>{}</pre>\n", escaped(&signed.report)));
}

fn facts(page: &mut String, facts: &[(&str, String)]) {
    page.push_str("<table>\n");
    for (name, value) in facts {
        page.push_str(&format!(
            "<tr><th>{name}</th><td>{}</td></tr>\n",
            escaped(value)
        ));
    }
    page.push_str("</table>\n");
}

/// A table under a heading; nothing without rows.
fn table(page: &mut String, title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    page.push_str(&format!("<h2>{}</h2><table>\n<tr>", escaped(title)));
    for head in heads {
        page.push_str(&format!("<th>{head}</th>"));
    }
    page.push_str("</tr>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let class = if cell.bytes().all(|byte| byte.is_ascii_digit()) {
                " class=\"n\""
            } else {
                ""
            };
            page.push_str(&format!("<td{class}>{}</td>", escaped(&cell)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}
