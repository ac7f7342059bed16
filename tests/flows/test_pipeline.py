from small_project import ROOT, dvc, python

from flows.pipeline import STAGES, addresses, environment, source_stage


def test_the_stages_of_a_data_set_are_those_of_dvc_yaml():
    listed = dvc(ROOT, "stage", "list", "--all", "--name-only").split()
    assert sorted(addresses(ROOT, "synthetic", given=False)) == sorted(listed)


def test_data_that_a_stage_makes_comes_first_unless_the_user_gives_it(project):
    assert source_stage(project, "synthetic") == "synthesize"
    assert source_stage(project, "busi") is None
    assert addresses(project, "synthetic", given=False)[0] == "synthesize"
    assert addresses(project, "synthetic", given=True)[0] == "prepare@synthetic"
    assert addresses(project, "busi", given=True) == [f"{s}@busi" for s in STAGES]


def test_a_stage_runs_the_workspace_s_code(project):
    (project / "kmunet.py").write_text("print('of the workspace')")
    done = python(project, "-c", "import kmunet", **environment(project))
    assert done.stdout == "of the workspace\n"
