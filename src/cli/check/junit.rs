//! What was checked, as JUnit XML: a suite for each version, a case for each
//! step. GitLab, Jenkins and GitHub's actions read it.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::cli::report;
use crate::registry::{CheckStep, Checked, Status};

/// The document.
pub(super) fn render(checked: &[Checked]) -> io::Result<String> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let steps = || checked.iter().flat_map(|checked| &checked.steps);
    let failures = steps().filter(|step| step.status == Status::Failed).count();
    writer
        .create_element("testsuites")
        .with_attribute(("name", "foreshadow check"))
        .with_attribute(("tests", steps().count().to_string().as_str()))
        .with_attribute(("failures", failures.to_string().as_str()))
        .with_attribute(("time", time(checked.iter().map(|c| c.seconds).sum()).as_str()))
        .write_inner_content(|writer| checked.iter().try_for_each(|one| suite(writer, one)))?;
    let mut text = String::from_utf8(writer.into_inner()).map_err(io::Error::other)?;
    text.push('\n');
    Ok(text)
}

fn suite(writer: &mut Writer<Vec<u8>>, checked: &Checked) -> io::Result<()> {
    let name = format!("{} {}", checked.model, checked.version);
    let count =
        |status| checked.steps.iter().filter(|step| step.status == status).count().to_string();
    writer
        .create_element("testsuite")
        .with_attribute(("name", name.as_str()))
        .with_attribute(("tests", checked.steps.len().to_string().as_str()))
        .with_attribute(("failures", count(Status::Failed).as_str()))
        .with_attribute(("errors", "0"))
        .with_attribute(("skipped", count(Status::Skipped).as_str()))
        .with_attribute(("time", time(checked.seconds).as_str()))
        .write_inner_content(|writer| {
            checked.steps.iter().try_for_each(|step| case(writer, &name, step))?;
            let found = [report::signature(&checked.report), report::findings(&checked.report)];
            let found = found.concat().join("\n");
            let element = writer.create_element("system-out");
            element.write_text_content(BytesText::new(&allowed(&found))).map(drop)
        })
        .map(drop)
}

fn case(writer: &mut Writer<Vec<u8>>, suite: &str, step: &CheckStep) -> io::Result<()> {
    let class = format!("foreshadow.{}", suite.replace(' ', "."));
    let seconds = step.seconds.map(time);
    let element = writer
        .create_element("testcase")
        .with_attribute(("classname", class.as_str()))
        .with_attribute(("name", allowed(&step.name).as_str()))
        .with_attributes(seconds.as_deref().map(|seconds| ("time", seconds)));
    let detail = allowed(step.detail.as_deref().unwrap_or_default());
    let inner = match step.status {
        Status::Passed => return element.write_empty().map(drop),
        Status::Failed => "failure",
        Status::Skipped => "skipped",
    };
    element
        .write_inner_content(|writer| {
            let inner = writer.create_element(inner).with_attribute(("message", detail.as_str()));
            if step.status == Status::Skipped {
                return inner.write_empty().map(drop);
            }
            let inner = inner.with_attribute(("type", allowed(&step.name).as_str()));
            inner.write_text_content(BytesText::new(&detail)).map(drop)
        })
        .map(drop)
}

fn time(seconds: f64) -> String {
    format!("{seconds:.6}")
}

/// Without what XML 1.0 cannot hold, not even escaped.
fn allowed(text: &str) -> String {
    let fits = |c: char| {
        matches!(c, '\t' | '\n' | '\r') || c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quick_xml::Reader;

    use super::*;
    use crate::registry::preflight::Report;

    fn checked(name: &str, detail: &str) -> Vec<Checked> {
        let step = |status| CheckStep {
            name: name.to_owned(),
            status,
            detail: Some(detail.to_owned()),
            seconds: Some(0.5),
        };
        vec![Checked {
            model: "churn".into(),
            version: 3,
            folder: "f".into(),
            passed: false,
            seconds: 1.5,
            steps: vec![step(Status::Passed), step(Status::Failed), step(Status::Skipped)],
            report: Report::default(),
        }]
    }

    /// Every element's name with its attributes' values, or what is wrong.
    fn read(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        let mut reader = Reader::from_str(text);
        let mut found = Vec::new();
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Eof => return Ok(found),
                Event::Start(tag) | Event::Empty(tag) => {
                    let value = |a: Result<quick_xml::events::attributes::Attribute<'_>, _>| {
                        let raw = a.map_err(|e| format!("{e}"))?.value.into_owned();
                        let raw = String::from_utf8_lossy(raw.as_ref()).into_owned();
                        quick_xml::escape::unescape(&raw)
                            .map(std::borrow::Cow::into_owned)
                            .map_err(|e| e.to_string())
                    };
                    let values = tag.attributes().map(value).collect::<Result<_, _>>()?;
                    found.push((tag.name().as_ref().to_owned(), values));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_suite_counts_its_cases() {
        let text = render(&checked("golden case 1", "expected <1> & \"2\"")).unwrap();
        let found = read(&text).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "testsuites",
            "testsuite",
            "testcase",
            "testcase",
            "failure",
            "testcase",
            "skipped",
            "system-out",
        ];
        assert_eq!(names, expected);
        assert_eq!(found[0].1, ["foreshadow check", "3", "1", "1.500000"]);
        assert_eq!(found[1].1, ["churn 3", "3", "1", "0", "1", "1.500000"]);
        assert_eq!(found[2].1, ["foreshadow.churn.3", "golden case 1", "0.500000"]);
        assert_eq!(found[4].1, ["expected <1> & \"2\"", "golden case 1"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_a_model_is_called_the_document_is_well_formed(name in ".*", detail in any::<String>()) {
            let text = render(&checked(&name, &detail)).unwrap();
            let found = read(&text).unwrap();
            prop_assert_eq!(&found[4].1[0], &allowed(&detail));
            prop_assert!(text.chars().all(|c| c == '\n' || c == '\t' || c == '\r' || c >= ' '));
        }
    }
}
