"""The 47 lines of what fastnn survives, and the tests of each: `test_<number>_...` in tests/faults, and others.

python tests/fault_lines.py            # print the table
python tests/fault_lines.py --write    # put it into docs/reliability.md

`faults/test_lines.py` proves that every line has a test, and that every test that is named exists.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

from written import ROOT, Written


class Line(NamedTuple):
    """What is survived, and how: in words. `tests` elsewhere as "file.py::name", stages of .ci as "name.sh"; `built` is
    False where what it speaks of does not exist yet."""

    what: str
    how: str
    tests: tuple[str, ...] = ()
    built: bool = True


SECTIONS = {"Input": 1, "Threads and processes": 19, "Training": 31, "Model files": 40, "Packaging": 44}  # first lines
FILES = "test_files.py::test_hostile_content_with_the_right_digest"
FORKS = "test_native_engine.py::test_forked_children_train_to_the_same_bits"

LINES = {
    1: Line(
        "NaN, infinity or overflow in X",
        "ValueError with row, column and its name",
        ("test_faults.py::test_rows", "test_faults.py::test_a_bad_value_is_found_wherever_it_hides"),
    ),
    2: Line(
        "NaN or infinity in y and weights",
        "ValueError with the row",
        (
            "test_faults.py::test_targets",
            "test_faults.py::test_the_place_of_a_bad_target_or_weight",
            "test_data.py::test_missing_targets_and_weights_are_nan",
        ),
    ),
    3: Line("X of one or too many dimensions", "ValueError with its shape", ("test_faults.py::test_rows",)),
    4: Line("0 rows, 0 features", "ValueError; an engine called with 0 rows makes (0, k)"),
    5: Line("other numbers of rows in X and y", "ValueError with both", ("test_faults.py::test_targets",)),
    6: Line(
        "predict on other features, or columns in another order",
        "ValueError with the first that differs",
        ("test_faults.py::test_columns_in_another_order", "test_faults.py::test_data_frames"),
    ),
    7: Line("what was not fitted", "NotFittedError", ("test_faults.py::test_a_model_without_a_loss",)),
    8: Line("complex, dates, dicts, text for X", "TypeError or ValueError", ("test_faults.py::test_rows",)),
    9: Line(
        "no y, mixed labels, continuous y for classes",
        "TypeError or ValueError, as scikit-learn",
        (
            "test_estimators.py::test_errors_are_scikit_learns",
            "test_estimators.py::test_errors_of_classes_are_scikit_learns",
        ),
    ),
    10: Line(
        "one class",
        "fits: probability 1",
        ("test_faults.py::test_a_single_class", "test_one_class.py::test_its_probability_is_1"),
    ),
    11: Line("negative weights, all zero", "ValueError", ("test_faults.py::test_sample_weights",)),
    12: Line(
        "hyper-parameters out of range",
        "ValueError that names it",
        ("test_optimizers.py::test_out_of_range_names_the_parameter", "test_faults.py::test_settings_of_a_fit"),
    ),
    13: Line("one row, batches that are larger, a short last one", "fits", ("test_faults.py::test_few_rows",)),
    14: Line(
        "any layout and dtype of X, y and weights",
        "the bits of a contiguous copy",
        ("test_faults.py::test_memory_layout_does_not_matter", "test_faults.py::test_dtype_does_not_matter"),
    ),
    15: Line(
        "over 2^31 values; sizes that overflow",
        "right; ValueError or MemoryError",
        ("test_faults.py::test_rows_beyond_2_to_the_31_elements",),
    ),
    16: Line("arrays that end where memory ends", "no byte beyond is touched, sizes 1 to 130"),
    17: Line(
        "NaN in a kernel's input; in its output before",
        "goes on; is overwritten",
        ("test_native.py::test_nan_propagates", "test_kernels.py::test_nan_goes_where_it_does_in_the_reference"),
    ),
    18: Line(
        "the state of the floating point unit",
        "is the caller's after import and calls",
        ("test_faults.py::test_denormal_numbers_survive_every_call",),
    ),
    19: Line("fork after a fit", "the child fits, to the same bits", (FORKS,)),
    20: Line("fork while another thread fits", "both end (native); see below for numpy and numba", (FORKS,)),
    21: Line(
        "several joblib workers",
        "share the processors",
        ("test_estimators.py::test_workers_of_loky_share_the_processors",),
    ),
    22: Line(
        "a quota of one CPU, or an affinity",
        "one thread",
        (
            "test_cpus.py::test_the_smallest_quota_counts",
            "test_native_engine.py::test_a_quota_and_a_limit_bound_the_threads",
        ),
    ),
    23: Line(
        "64 threads that predict with one model",
        "the bits of one",
        ("test_native_engine.py::test_concurrent_predictions_of_one_model_have_the_bits_of_one",),
    ),
    24: Line(
        "two threads that fit one model or estimator",
        "RuntimeError for the second",
        (
            "test_one_fit_at_a_time.py::test_an_estimator_is_fitted_by_one_thread",
            "test_one_fit_at_a_time.py::test_the_native_engine_itself_is_entered_by_one_thread",
        ),
    ),
    25: Line("imported with torch and scikit-learn, in any order", "works"),
    26: Line(
        "Ctrl-C at any moment",
        "KeyboardInterrupt; the model has whole steps",
        (
            "test_native_engine.py::test_ctrl_c_leaves_the_last_completed_step",
            "test_native_engine.py::test_ctrl_c_ends_a_prediction",
            "test_fuzz.py::test_interruptions_at_any_moment",
        ),
    ),
    27: Line(
        "memory or threads that the system refuses",
        "MemoryError, and the next call works; one thread",
        (
            "test_native_engine.py::test_a_failed_allocation_is_a_memory_error_and_the_next_call_works",
            "test_native_engine.py::test_where_no_thread_can_be_started_one_goes_on",
        ),
    ),
    28: Line(
        "a callback or metric that raises",
        "the same exception, nothing left running",
        ("test_faults.py::test_an_error_in_a_metric_is_passed_on",),
    ),
    29: Line(
        "FASTNN_ISA that the CPU lacks", "RuntimeError", ("test_native.py::test_unknown_instruction_set_is_an_error",)
    ),
    30: Line("the extension missing", "a fallback, said once", ("test_faults.py::test_falling_back_is_said_once",)),
    31: Line(
        "a loss that diverges",
        "DivergenceError with step and rate; the last finite parameters",
        (
            "test_trainer.py::test_divergence_names_step_and_rate",
            "test_trainer.py::test_after_a_divergence_everything_is_finite",
        ),
    ),
    32: Line(
        "SIGKILL at any moment of a save",
        "the old file or the new one; the next save removes what was left",
        (
            "test_fuzz.py::test_interruptions_at_any_moment",
            "test_files.py::test_what_a_killed_save_left_is_removed_by_the_next_one_of_that_name",
        ),
    ),
    33: Line(
        "SIGKILL of a fit, and its resume at any number of threads",
        "the bits of a fit that was left alone",
        (
            "test_checkpoints.py::test_killed_at_random_moments_and_resumed",
            "test_checkpoints.py::test_resumed_ends_with_the_same_bits",
            "test_checkpoints.py::test_at_another_number_of_threads",
        ),
    ),
    34: Line(
        "a full disk, one that is read-only, or fails",
        "OSError; the old file whole, no temporary",
        (
            "test_files.py::test_what_fails_leaves_the_old_file_and_no_temporary",
            "test_files.py::test_a_full_disk_is_an_os_error",
            "test_checkpoints.py::test_an_error_of_the_disk_is_what_the_user_sees",
        ),
    ),
    35: Line(
        "any truncation, any flipped bit",
        "an error",
        (
            "test_files.py::test_every_flipped_bit_is_noticed",
            "test_files.py::test_every_truncation_and_extension_is_noticed",
            "test_fuzz.py::test_files_with_anything_changed",
        ),
    ),
    36: Line(
        "the newest checkpoint damaged",
        "the one before, with a warning",
        (
            "test_checkpoints.py::test_a_damaged_newest_file_is_passed_over",
            "test_checkpoints.py::test_all_files_damaged",
        ),
    ),
    37: Line(
        "a resume with other data, settings or version",
        "ValueError that names what differs; every value of the data counts",
        (
            "test_checkpoints.py::test_what_was_saved_with_something_else",
            "test_checkpoints.py::test_another_version",
            "test_checkpoints.py::test_every_value_counts_in_a_digest",
            "test_checkpoints.py::test_other_rows_of_large_data_are_refused",
        ),
    ),
    38: Line(
        "two fits that write into one folder", "CheckpointError", ("test_checkpoints.py::test_two_fits_in_one_folder",)
    ),
    39: Line("the mode of files", "follows the umask", ("test_files.py::test_the_mode_follows_the_umask",)),
    40: Line(
        "files that say what cannot be",
        "ModelFormatError, in bounded memory",
        (
            FILES,
            "test_files.py::test_a_member_twice",
            "test_files.py::test_reading_takes_twice_the_size_of_the_file",
            "test_model_files.py::test_headers_that_say_what_cannot_be",
            "test_model_files.py::test_tensors_that_are_not_the_layers",
            "test_fuzz.py::test_files_with_anything_changed",
        ),
    ),
    41: Line("a pickle, whatever its name", "is never executed", ("test_model_files.py::test_pickles_are_not_opened",)),
    42: Line("a file replaced or cut while it is read", "a whole one, or an error"),
    43: Line(
        "ONNX files, written and read",
        "one file or none; what it cannot say is refused by name, and so is what is read",
        (
            "test_onnx.py::test_the_old_file_or_the_new",
            "test_onnx.py::test_what_cannot_be_written_is_named",
            "test_onnx.py::test_what_no_layer_stands_for_is_refused_by_name",
            "test_onnx.py::test_damaged_files_are_refused_or_read",
        ),
    ),
    44: Line(
        "CPUs without AVX; other symbols",
        "no AVX outside of the dispatched objects, one symbol exported, a clean wheel",
        (
            "test_packaging.py::test_only_the_init_function_is_exported",
            "test_packaging.py::test_it_runs_on_a_cpu_without_avx",
            "wheel.sh",
        ),
    ),
    45: Line("no compiler", "installs, says so, and the tests pass", ("fallback.sh",)),
    46: Line("the sdist", "builds the same wheel", ("wheel.sh",)),
    47: Line("address, undefined-behaviour and thread sanitizers", "no finding, no suppression", ("sanitize.sh",)),
}


@functools.cache
def functions(path: Path) -> list[str]:
    """The tests that a file defines."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [item.name for item in body if isinstance(item, ast.FunctionDef) and item.name.startswith("test_")]


def here(number: int) -> list[str]:
    """The tests of a line in tests/faults, as "faults/file.py::name"."""
    found = [
        (path.name, name) for path in sorted((ROOT / "tests" / "faults").glob("test_*.py")) for name in functions(path)
    ]
    return [f"faults/{file}::{name}" for file, name in found if re.match(rf"test_{number:02}_", name)]


def exists(test: str) -> bool:
    """Whether there is a test of that name, or a stage of .ci that runs."""
    file, _, name = test.partition("::")
    if name:
        path = ROOT / "tests" / file
        return path.is_file() and name in functions(path)
    stages = ("run", "../.github/workflows/sanitize.yml")
    said = "".join((ROOT / ".ci" / each).read_text(encoding="utf-8") for each in stages)
    return (ROOT / ".ci" / file).is_file() and bool(re.search(rf"\b{file.removesuffix('.sh')}\b", said))


def table() -> str:
    rows = ["| | what happens | what then | tried by |", "| ---: | --- | --- | --- |"]
    titles = {first: title for title, first in SECTIONS.items()}
    for number, line in LINES.items():
        if number in titles:
            rows.append(f"| | **{titles[number]}** | | |")
        tests = [f"`{test if '::' in test else f'.ci/{test}'}`" for test in (*here(number), *line.tests)]
        rows.append(f"| {number} | {line.what} | {line.how} | {', '.join(tests) or 'nothing'} |")
    return "\n".join(rows)


TABLE = Written("lines", ROOT / "docs" / "reliability.md", "python tests/fault_lines.py", table)

if __name__ == "__main__":
    TABLE.main()
