//! The part of the list that a process of a Slurm job has: the part of its task in the array, and within that the part of
//! the process in its step.
//!
//! The variables are those that Slurm 22.05 sets. In the batch script itself, outside of `srun`, it sets SLURM_PROCID=0,
//! and SLURM_NTASKS if the job asks for a number of tasks, although the script is one process. Only `srun` sets
//! SLURM_STEP_ID. An array keeps its count and bounds when some of its tasks are cancelled or requeued. For a list of
//! indices (`--array=0,2,4`) SLURM_ARRAY_TASK_STEP is 1.

use super::shard::Shard;
use crate::failure::Failure;

/// Step ids from here on are not steps of `srun`: the batch script, an interactive step, the external step.
const SPECIAL_STEPS: u64 = 0xffff_fff0;

const RERUN: &str = "number the array from 0 or 1 without gaps, as in --array=1-16, or select the shard with --shard i/n, \
    also to run some shards again; --shard none runs the whole list";

/// A part, from 0, of a number of parts, and the variables that select it.
#[derive(Debug)]
struct Part {
    index: u64,
    count: u64,
    variables: String,
}

/// The part that Slurm selects, and a description of the variables that select it. None outside of Slurm, and in a batch
/// script that is not of an array: that script is one process.
pub(super) fn part(
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<(Shard, Option<String>)>, Failure> {
    let (index, count, variables) = match (in_array(variable)?, in_step(variable)?) {
        (None, None) => return Ok(None),
        (None, Some(part)) | (Some(part), None) => (part.index, part.count, part.variables),
        (Some(task), Some(process)) => {
            // Each task of an array has the same number of processes, as all run the same script. So the parts are
            // complete, and have no job in common.
            let index = task.index.checked_mul(process.count);
            let index = index.and_then(|index| index.checked_add(process.index));
            let count = task.count.checked_mul(process.count);
            let variables = format!("{}, {}", task.variables, process.variables);
            match (index, count) {
                (Some(index), Some(count)) => (index, count, variables),
                _ => return Err(bad(&variables, "the number of shards is above 2^64", RERUN)),
            }
        }
    };
    // The message is also for an array of one task, which may be meant to run one part of more again.
    let reported = count > 1 || variable("SLURM_ARRAY_TASK_ID").is_some();
    let shard = Shard::from_zero(index, count)
        .ok_or_else(|| bad(&variables, "there is no such shard", RERUN))?;
    Ok(Some((
        shard,
        reported.then(|| format!("Slurm ({variables})")),
    )))
}

/// The part of this task in a job array.
fn in_array(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<Part>, Failure> {
    const COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
    let Some(id) = variable("SLURM_ARRAY_TASK_ID") else {
        return Ok(None);
    };
    let mut variables = format!("SLURM_ARRAY_TASK_ID={id}");
    let mut number = |name: &str| -> Result<Option<u64>, Failure> {
        let Some(text) = variable(name) else {
            return Ok(None);
        };
        if name != "SLURM_ARRAY_TASK_ID" {
            variables = format!("{variables}, {name}={text}");
        }
        let number = text.trim().parse();
        number
            .map(Some)
            .map_err(|_| bad(&format!("{name}={text}"), "which is not a number", RERUN))
    };
    let id = number("SLURM_ARRAY_TASK_ID")?;
    let count = number(COUNT)?;
    let first = number("SLURM_ARRAY_TASK_MIN")?;
    let last = number("SLURM_ARRAY_TASK_MAX")?;
    let step = number("SLURM_ARRAY_TASK_STEP")?;
    let (Some(id), Some(count), Some(first)) = (id, count, first) else {
        // Each task would run the whole list.
        let cause = format!("but {COUNT} or SLURM_ARRAY_TASK_MIN is not set");
        return Err(bad(&variables, &cause, RERUN));
    };
    let step = step.unwrap_or(1);
    if first > 1 {
        // Often some tasks of an earlier array, which has other parts.
        let cause = "and an array that does not begin at 0 or 1 may be a part of another";
        return Err(bad(&variables, cause, RERUN));
    }
    let last = last.unwrap_or_else(|| first.saturating_add(count.saturating_sub(1)));
    let index = |id: u64| {
        let distance = id.checked_sub(first)?;
        (distance.checked_rem(step)? == 0).then_some(distance / step)
    };
    match (index(id), index(last)) {
        (Some(index), Some(last)) if index <= last && last.checked_add(1) == Some(count) => {
            Ok(Some(Part {
                index,
                count,
                variables: format!("SLURM_ARRAY_TASK_ID={id}, {COUNT}={count}"),
            }))
        }
        _ => Err(bad(&variables, "and the indices have gaps", RERUN)),
    }
}

/// The part of this process in a step of `srun`.
fn in_step(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<Part>, Failure> {
    const REMEDY: &str = "select a shard with --shard i/n; --shard none runs the whole list";
    let (Some(process), Some(count)) = (variable("SLURM_PROCID"), variable("SLURM_NTASKS")) else {
        return Ok(None);
    };
    let variables = format!("SLURM_PROCID={process}, SLURM_NTASKS={count}");
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (Some(index), Some(count)) = (number(&process), number(&count)) else {
        return Err(bad(&variables, "and one of them is not a number", REMEDY));
    };
    let step = variable("SLURM_STEP_ID").and_then(|text| number(&text));
    let in_srun = step.is_some_and(|step| step < SPECIAL_STEPS);
    if index == 0 && !in_srun {
        // The only process of a batch script.
        return Ok(None);
    }
    if index >= count {
        return Err(bad(&variables, "and there is no such shard", REMEDY));
    }
    Ok(Some(Part {
        index,
        count,
        variables,
    }))
}

fn bad(variables: &str, cause: &str, remedy: &str) -> Failure {
    Failure::usage(format!("Slurm selects a shard by {variables}, {cause}")).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part as text, or the message, for variables such as `PROCID=1`, without their prefix.
    fn select(variables: &str) -> Result<Option<String>, String> {
        let variable = |name: &str| {
            let mut pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
            let name = name.strip_prefix("SLURM_")?;
            pairs
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        part(&variable)
            .map(|part| part.map(|(shard, _)| shard.to_string()))
            .map_err(|failure| failure.to_lines())
    }

    /// The variables of a task of an array.
    fn array(id: u64, count: u64, first: u64, last: u64, step: u64) -> String {
        format!(
            "ARRAY_TASK_ID={id} ARRAY_TASK_COUNT={count} ARRAY_TASK_MIN={first} ARRAY_TASK_MAX={last} ARRAY_TASK_STEP={step}"
        )
    }

    fn shard(variables: &str) -> String {
        let part = select(variables).expect(variables);
        part.unwrap_or_else(|| panic!("nothing selected by {variables}"))
    }

    fn refused(variables: &str, cause: &str) {
        let message = select(variables).expect_err(variables);
        assert!(message.contains(cause), "{variables}: {message}");
        assert!(message.contains("--shard i/n"), "{message}");
    }

    #[test]
    fn processes_of_a_step_divide_the_list() {
        assert_eq!(shard("PROCID=0 NTASKS=4 STEP_ID=0"), "1/4");
        assert_eq!(shard("PROCID=3 NTASKS=4 STEP_ID=2"), "4/4");
        assert_eq!(shard("PROCID=0 NTASKS=1 STEP_ID=1"), "1/1");
    }

    #[test]
    fn a_batch_script_is_one_process() {
        assert_eq!(select(""), Ok(None));
        assert_eq!(select("PROCID=0"), Ok(None));
        assert_eq!(select("PROCID=0 NTASKS=4"), Ok(None));
        // The step ids of a batch script and of an interactive step.
        assert_eq!(select("PROCID=0 NTASKS=4 STEP_ID=4294967291"), Ok(None));
        assert_eq!(select("PROCID=0 NTASKS=4 STEP_ID=4294967290"), Ok(None));
    }

    #[test]
    fn array_tasks_divide_the_list() {
        // In the batch script, which has SLURM_NTASKS if the job asks for a number of tasks.
        for rest in ["PROCID=0", "PROCID=0 NTASKS=1", "PROCID=0 NTASKS=8"] {
            assert_eq!(shard(&format!("{} {rest}", array(0, 3, 0, 2, 1))), "1/3");
            assert_eq!(
                shard(&format!("{} {rest}", array(16, 16, 1, 16, 1))),
                "16/16"
            );
        }
        // With a step of its own, of one process.
        let task = format!("{} PROCID=0 NTASKS=1 STEP_ID=0", array(2, 3, 0, 2, 1));
        assert_eq!(shard(&task), "3/3");
        // --array=1-15:4
        for (id, part) in [(1, "1/4"), (5, "2/4"), (13, "4/4")] {
            assert_eq!(shard(&array(id, 4, 1, 13, 4)), part);
        }
    }

    #[test]
    fn steps_in_an_array_divide_the_parts_of_its_tasks() {
        let mut parts = Vec::new();
        for id in 1..=3 {
            for process in 0..4 {
                let step = format!("PROCID={process} NTASKS=4 STEP_ID=0");
                parts.push(shard(&format!("{} {step}", array(id, 3, 1, 3, 1))));
            }
        }
        let expected: Vec<_> = (1..=12).map(|index| format!("{index}/12")).collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn arrays_without_a_computable_part_are_refused() {
        // --array=1,5,9 and 0,2,4
        refused(&array(5, 3, 1, 9, 1), "gaps");
        refused(&array(2, 3, 0, 4, 1), "gaps");
        refused(&array(1, 2, 0, 2, 2), "gaps");
        refused(&array(0, 1, 0, 0, 0), "gaps");
        // Some tasks of another array.
        refused(&array(7, 1, 7, 7, 1), "0 or 1");
        refused(&array(3, 3, 3, 5, 1), "0 or 1");
        refused("ARRAY_TASK_ID=1", "ARRAY_TASK_COUNT or");
        refused("ARRAY_TASK_ID=1 ARRAY_TASK_COUNT=2", "ARRAY_TASK_MIN is");
        refused("ARRAY_TASK_ID=x", "not a number");
        refused(&array(4, 3, 1, 3, 1), "gaps");
    }

    #[test]
    fn bounds_that_are_not_set_follow_from_the_count() {
        let task = |id: u64| format!("ARRAY_TASK_ID={id} ARRAY_TASK_COUNT=2 ARRAY_TASK_MIN=1");
        assert_eq!(shard(&task(2)), "2/2");
        refused(&task(3), "gaps");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        refused("PROCID=4 NTASKS=4 STEP_ID=0", "no such shard");
        refused("PROCID=x NTASKS=4", "not a number");
        refused("PROCID=1 NTASKS=0", "no such shard");
        let max = u64::MAX;
        refused(&array(0, 0, 0, max, 1), "gaps");
        let step = format!("PROCID=1 NTASKS={max} STEP_ID=0");
        refused(&format!("{} {step}", array(1, 2, 0, 1, 1)), "2^64");
    }

    #[test]
    fn an_array_of_one_task_is_reported() {
        let report = |variables: &'static str| {
            let variable = |name: &str| {
                let mut pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
                pairs
                    .find(|(key, _)| Some(*key) == name.strip_prefix("SLURM_"))
                    .map(|(_, value)| value.to_owned())
            };
            part(&variable).unwrap().unwrap().1
        };
        let array = report("ARRAY_TASK_ID=1 ARRAY_TASK_COUNT=1 ARRAY_TASK_MIN=1 PROCID=0");
        assert!(array.is_some_and(|text| text.contains("SLURM_ARRAY_TASK_COUNT=1")));
        assert_eq!(report("PROCID=0 NTASKS=1 STEP_ID=0"), None);
    }
}
