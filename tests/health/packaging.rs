//! The dashboard and the alert rules that come with it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::{GOOD, Guard, not_root, poll, skip_unless};
use crate::http::ask;

/// What of `text` names a metric: the name, and the selector in braces if there is one.
fn metrics_of(text: &str) -> Vec<(String, String)> {
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    text.match_indices("steadfast_")
        .map(|(at, _)| {
            let rest = &text[at..];
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            (name.to_owned(), selector.map_or(String::new(), |(inside, _)| inside.to_owned()))
        })
        .collect()
}

/// The labels with values that a selector asks for, without the host, as Prometheus adds that.
fn wanted(selector: &str) -> Vec<String> {
    let all = selector.split(',').filter(|one| !one.is_empty() && !one.starts_with("instance"));
    all.map(|one| one.replace("!=", "=")).collect()
}

#[test]
fn every_metric_that_the_dashboard_and_the_alert_rules_name_is_there() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    // What the self-test found is told once it was made.
    let page = poll(
        || {
            let (_, page) = ask(&guard.control(), "/metrics");
            page.contains("steadfast_selftest_route").then_some(page)
        },
        || guard.story(),
    );
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let there: BTreeSet<&str> =
        samples.clone().filter_map(|l| l.split(['{', ' ']).next()).collect();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for file in ["prometheus/steadfast.rules.yml", "grafana/steadfast.json"] {
        let text = std::fs::read_to_string(packaging.join(file)).unwrap().replace("\\\"", "\"");
        let named = metrics_of(&text);
        assert!(named.len() > 10, "{file}: {named:?}");
        for (name, selector) in named {
            assert!(there.contains(name.as_str()), "{file}: {name} is no metric");
            for label in wanted(&selector) {
                let is_it = |line: &str| {
                    line.split(['{', ' ']).next() == Some(&name) && line.contains(&label)
                };
                assert!(samples.clone().any(is_it), "{file}: {name} has no {label}");
            }
        }
    }
    let dashboard = std::fs::read(packaging.join("grafana/steadfast.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    assert_eq!(dashboard["title"], "steadfast");
}
