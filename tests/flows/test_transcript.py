from flows.transcript import Transcript


def transcript(text):
    logged = []
    found = Transcript(logged.append)
    for line in text.splitlines():
        found.add(line)
    return found, logged


def test_a_failed_stage_speaks_for_itself():
    found, _ = transcript(
        "Running stage 'prepare@busi':\n"
        "error: prepare: benign (3).png: no mask;\n"
        "add one or remove the image\n"
        "ERROR: failed to reproduce 'prepare@busi': exited with 2\n"
    )
    expected = "error: prepare: benign (3).png: no mask;\nadd one or remove the image"
    assert found.message(2) == expected


def test_without_its_words_dvc_speaks_and_else_the_exit_code():
    found, _ = transcript("ERROR: failed to reproduce 'x': missing data 'source': a")
    assert "missing data" in found.message(1)
    assert "exit code 9" in transcript("")[0].message(9)


def test_skipped_stages_are_seen_and_advice_is_left_out():
    for line in (
        "Stage 'train@busi' didn't change, skipping",
        "Stage 'train@busi' is cached - skipping run, checking out outputs",
    ):
        found, logged = transcript(f"{line}\nUpdating lock file 'dvc.lock'\n\ngit add")
        assert found.skipped
        assert logged == [line]
    assert not transcript("Running stage 'train@busi':")[0].skipped
