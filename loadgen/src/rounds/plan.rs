//! The plan of a measurement: scenarios, contestants and repetitions.

use clap::ValueEnum;

use crate::cli::Options;
use crate::report::bootstrap::MIN_VALUES;
use crate::types::kind::Kind;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;

pub(crate) struct Plan {
    pub(super) name: &'static str,
    pub(super) scenarios: Vec<Scenario>,
    pub(super) kinds: Vec<Kind>,
    /// The rounds that are made in any case.
    pub(super) repeat: u32,
    /// The user named the contestants, so it is an error if one of them cannot take part.
    /// Otherwise the report lists it as absent.
    pub(super) by_name: bool,
}

impl Plan {
    /// One scenario, with exitring unless the user names others.
    pub(crate) fn single(scenario: Scenario, options: &Options) -> Self {
        let is_serve = matches!(scenario, Scenario::Serve(_));
        let mut plan = Self::compare(scenario, options);
        plan.by_name |= options.with.is_empty();
        // The service is always compared with the library that it is made of.
        if !is_serve {
            if options.with.is_empty() {
                plan.kinds = vec![Kind::Exitring];
            }
            plan.repeat = least_rounds(options, 1);
        }
        plan
    }

    /// One scenario, with all contestants in Rust unless the user names some.
    pub(crate) fn compare(scenario: Scenario, options: &Options) -> Self {
        Self {
            name: scenario.name(),
            repeat: least_rounds(options, 3),
            ..Self::scale(vec![scenario], options)
        }
    }

    /// One scenario in several sizes.
    pub(crate) fn scale(scenarios: Vec<Scenario>, options: &Options) -> Self {
        let kinds = match options.with.is_empty() {
            true => default_kinds(&scenarios),
            false => options.with.clone(),
        };
        Self {
            name: "scale",
            scenarios,
            kinds,
            // The sizes make many runs already.
            repeat: least_rounds(options, 1),
            by_name: options.with.len() == 1,
        }
    }

    /// One run of each contestant in a scenario.
    pub(super) fn specs(&self, scenario: &Scenario, options: &Options) -> Vec<RunSpec> {
        let spec = |&kind: &Kind| RunSpec {
            kind,
            workers: options.workers.into(),
            round: 0,
            scenario: scenario.clone(),
        };
        self.kinds.iter().map(spec).collect()
    }
}

/// The contestants if the user names none: the service and the library that it is made of, or all in
/// Rust. Programs in other languages need a long time to start many children. They take part only if
/// they are named, and so do the lower bounds of exitring itself.
fn default_kinds(scenarios: &[Scenario]) -> Vec<Kind> {
    if let Some(Scenario::Serve(_)) = scenarios.first() {
        return vec![
            Kind::Exitring,
            Kind::ExitringWatch,
            Kind::Serve,
            Kind::ServePower,
        ];
    }
    let all = Kind::value_variants().iter().copied();
    all.filter(|kind| !kind.is_external() && !kind.is_service() && !kind.is_floor())
        .collect()
}

/// The rounds that are made in any case. An interval of a ratio needs a certain number.
fn least_rounds(options: &Options, default: u32) -> u32 {
    let against = options.against.is_some() || options.baseline.is_some();
    let for_interval = MIN_VALUES as u32;
    if options.until_width.is_some() {
        return options.repeat.unwrap_or(default).max(for_interval);
    }
    let default = if against { for_interval } else { default };
    options.repeat.unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn plan(arguments: &[&str]) -> Plan {
        let cli = Cli::parse_from(["loadgen"].iter().chain(arguments));
        match cli.command {
            Some(Command::Single(scenario)) => Plan::single(scenario, &cli.options),
            Some(Command::Compare { scenario }) => Plan::compare(scenario, &cli.options),
            _ => panic!("no scenario"),
        }
    }

    #[test]
    fn the_service_takes_part_in_its_scenario_unless_others_are_named() {
        for (arguments, by_name) in [(&["serve"][..], true), (&["compare", "serve"], false)] {
            let plan = plan(arguments);
            let serve = [
                Kind::Exitring,
                Kind::ExitringWatch,
                Kind::Serve,
                Kind::ServePower,
            ];
            assert_eq!((&plan.kinds[..], plan.repeat), (&serve[..], 3));
            assert_eq!(plan.by_name, by_name);
        }
        let named = plan(&["serve", "--with", "serve"]);
        assert_eq!((named.kinds, named.repeat), (vec![Kind::Serve], 3));
        let single = plan(&["storm"]);
        assert_eq!((single.kinds, single.repeat), (vec![Kind::Exitring], 1));
        assert!(single.by_name);
        let all = plan(&["compare", "storm"]).kinds;
        assert!(all.contains(&Kind::Tokio) && !all.contains(&Kind::Serve));
    }
}
