//! Another build of the load generator, which runs the same contestants.
//!
//! It may be older or newer. Its JSON schema shows what it can measure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Map, Value};

use super::baseline;
use crate::cli::Options;
use crate::types::kind::Kind;
use crate::types::run::Run;
use crate::types::scenario::Scenario;

pub(super) struct OtherBuild {
    /// The name in titles.
    pub(super) name: String,
    pub(super) program: PathBuf,
    schema: Value,
}

/// The name of a build that has only a path.
const NAME: &str = "other build";

impl OtherBuild {
    /// The build that the options name, if they name one.
    pub(super) fn of(options: &Options) -> Result<Option<Self>> {
        let (name, program) = match (&options.against, &options.baseline) {
            (Some(program), _) => (NAME.to_owned(), program.clone()),
            (None, Some(name)) => (name.to_string(), baseline::find(name)?),
            (None, None) => return Ok(None),
        };
        let open = || Self::open(name, &program);
        let build = open().with_context(|| format!("the other build, {}", program.display()))?;
        Ok(Some(build))
    }

    fn open(name: String, program: &Path) -> Result<Self> {
        let program = program.canonicalize()?;
        let mut command = Command::new(&program);
        let output = command.arg("schema").stdin(Stdio::null()).output()?;
        let schema: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        ensure!(
            output.status.success() && schema["$defs"]["Run"].is_object(),
            "it is not a loadgen: it prints no schema of results"
        );
        Ok(Self {
            name,
            program,
            schema,
        })
    }

    /// Checks that it knows a scenario with all options that are set.
    pub(super) fn check(&self, scenario: &Scenario) -> Result<()> {
        let check = || check_scenario(&self.schema, scenario);
        check().with_context(|| {
            format!(
                "the versions of this build and of {} differ",
                self.program.display()
            )
        })
    }

    /// The reason why it does not have a contestant, if it does not.
    pub(super) fn reason_unable(&self, kind: Kind) -> Option<String> {
        let known = knows_kind(&self.schema, kind);
        (!known).then(|| "the other build does not have this contestant".into())
    }

    /// A run of this build, under its name.
    pub(super) fn label(&self, run: Run) -> Run {
        Run {
            title: self.title(&run.title),
            build: Some(self.name.clone()),
            ..run
        }
    }

    pub(super) fn title(&self, title: &str) -> String {
        format!("{title} ({})", self.name)
    }

    /// An error of a run of this build.
    pub(super) fn explain(&self, error: Error) -> Error {
        // A run that failed is a message of the other build, in a form that this one can read.
        match error.downcast_ref::<serde_json::Error>() {
            Some(_) => error.context(format!(
                "{} gave no result that this build can read: their versions may differ",
                self.program.display()
            )),
            None => error,
        }
    }
}

fn knows_kind(schema: &Value, kind: Kind) -> bool {
    let (kinds, name) = (&schema["$defs"]["Kind"], json(&kind));
    let variants = kinds["oneOf"].as_array().into_iter().flatten();
    let of_variant = |variant: &Value| variant["const"] == name || has(&variant["enum"], &name);
    variants.into_iter().any(of_variant) || has(&kinds["enum"], &name)
}

fn check_scenario(schema: &Value, scenario: &Scenario) -> Result<()> {
    // In JSON the scenario is an object with one key, which is not always the name for people.
    let ours = json(scenario);
    let ours = ours.as_object().and_then(|ours| ours.iter().next());
    let (name, ours) = ours.context("the scenario has no options")?;
    let variants = schema["$defs"]["Scenario"]["oneOf"].as_array();
    let mut variants = variants.into_iter().flatten();
    let Some(theirs) = variants.find_map(|variant| variant["properties"].get(name)) else {
        bail!("the other build does not have the scenario {name}");
    };
    let reference = theirs["$ref"].as_str().unwrap_or_default();
    let theirs = match reference.strip_prefix("#/$defs/") {
        Some(definition) => &schema["$defs"][definition],
        None => theirs,
    };
    let none = Map::new();
    let ours = ours.as_object().unwrap_or(&none);
    for (option, value) in ours {
        let is_set = !value.is_null() && *value != Value::Bool(false);
        if is_set && theirs["properties"].get(option).is_none() {
            bail!(
                "the other build does not have the option {} of {name}",
                flag(option)
            );
        }
    }
    for option in theirs["required"].as_array().into_iter().flatten() {
        let option = option.as_str().unwrap_or_default();
        if !ours.contains_key(option) {
            bail!(
                "the other build needs the option {} of {name}",
                flag(option)
            );
        }
    }
    Ok(())
}

fn flag(option: &str) -> String {
    format!("--{}", option.replace('_', "-"))
}

fn has(list: &Value, value: &Value) -> bool {
    list.as_array().is_some_and(|list| list.contains(value))
}

/// Null, which no build knows, cannot occur: names and options can be written as JSON.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::results::Report;

    fn schema() -> Value {
        schemars::schema_for!(Report).to_value()
    }

    fn storm() -> Scenario {
        serde_json::from_value(json!({ "storm": { "children": 5 } })).expect("a scenario")
    }

    fn error(schema: &Value) -> String {
        let error = check_scenario(schema, &storm()).expect_err("they differ");
        error.to_string()
    }

    #[test]
    fn a_build_knows_its_own_scenarios_and_contestants() {
        check_scenario(&schema(), &storm()).expect("the same build");
        let churn =
            json!({ "churn": { "concurrency": 1, "duration": 1.0, "live": 0, "exec": true } });
        let churn = serde_json::from_value(churn).expect("a scenario");
        check_scenario(&schema(), &churn).expect("the same build");
        assert!(knows_kind(&schema(), Kind::Exitring));
        assert!(knows_kind(&schema(), Kind::SigchldScan));
    }

    #[test]
    fn an_option_that_a_build_lacks_or_needs_is_named() {
        let mut older = schema();
        older["$defs"]["StormOptions"]["properties"] = json!({});
        assert!(error(&older).contains("does not have the option --children of storm"));
        let mut newer = schema();
        newer["$defs"]["StormOptions"]["required"] = json!(["children", "new_option"]);
        assert!(error(&newer).contains("needs the option --new-option of storm"));
        let mut without = schema();
        without["$defs"]["Scenario"]["oneOf"] = json!([]);
        assert!(error(&without).contains("does not have the scenario storm"));
    }

    #[test]
    fn a_contestant_that_a_build_lacks_is_known() {
        let older = json!({ "$defs": { "Kind": { "oneOf": [
            { "const": "exitring" },
            { "enum": ["tokio", "shadow"] },
        ] } } });
        assert!(knows_kind(&older, Kind::Exitring) && knows_kind(&older, Kind::Tokio));
        assert!(!knows_kind(&older, Kind::WaitLoop));
        assert!(!knows_kind(&json!({}), Kind::Exitring));
    }
}
