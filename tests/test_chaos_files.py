"""Files of a results directory are cut, emptied and flipped, again and again: a repair and a run make it whole."""

import pytest
from chaos import check_same, forms, hurt, record, report_of, run_here, seeded

from tas_bench.attempts import Attempts
from tas_bench.cli import main
from tas_bench.errors import OK
from tas_bench.reading import load

KINDS = ("rows", "_curves", "_trajectories", "_uses", "_weights", "_attempts")


def files(results):
    """All that a run keeps, but its logs."""
    kept = [path for kind in KINDS for path in sorted((results / kind).iterdir())]
    return [*kept, *(results / name for name in ("_results.parquet", "_sweep.json", "_data.json"))]


@pytest.mark.parametrize("wanted", forms(12, 200))
def test_damaged_files(tmp_path, request, capsys, wanted):
    rng, results, undisturbed = seeded(request), tmp_path / "results", tmp_path / "undisturbed"
    assert run_here("mixed", undisturbed) == OK
    for key in load(undisturbed)["job_id"]:  # so that there are logs of attempts
        Attempts(results, key).path.parent.mkdir(parents=True, exist_ok=True)
        Attempts(results, key).begin()
    assert run_here("mixed", results) == OK
    whole = report_of(undisturbed)
    hurts, trained, gone = 0, 0, set()  # weights stay lost until a job needs them
    while hurts < wanted:
        rows = {path: path.read_bytes() for path in (results / "rows").iterdir()}
        chosen = rng.sample(files(results), rng.randint(1, 8))
        for path in chosen:
            hurt(path, rng)
        hurts += len(chosen)
        assert main(["check", str(results), "--repair"]) == OK
        assert run_here("mixed", results) == OK
        gone |= {path.stem for path in chosen if path.parent.name == "_weights"}
        told = gone | {path.stem for path in chosen if path.parent.name == "rows"}
        changed = {path.stem for path, data in rows.items() if path.read_bytes() != data}
        assert changed <= told, "what was whole has run again"
        gone -= changed
        trained += len(changed)
        check_same(results, undisturbed)
        assert report_of(results) == whole
        assert main(["check", str(results)]) == OK
    record(request, f"{hurts} files damaged: {trained} jobs ran again, all others stood, the tables are the same")
