"""Modules: load and unload in any order, and by what is made in configfs."""
import itertools

import lio
import pytest

FABRICS = ["iscsi_target_mod", "tcm_loop"]
PLUGINS = ["target_core_file", "target_core_iblock"]


@pytest.fixture(autouse=True)
def unload():
    yield
    lio.clear(unload=True)


@pytest.mark.parametrize("order", list(itertools.permutations(["iscsi_target_mod", "tcm_loop", "target_core_iblock"])))
def test_load_and_unload_in_any_order(order):
    lio.modprobe(*order)
    assert lio.CORE.is_dir()
    for m in reversed(order[1:] + order[:1]):
        lio.run("rmmod", m)
    lio.run("rmmod", "target_core_mod")
    assert not lio.CFS.exists()


@pytest.mark.parametrize("module,fabric", [("iscsi_target_mod", "iscsi"), ("tcm_loop", "loopback")])
def test_mkdir_loads_the_fabric(module, fabric):
    lio.modprobe("target_core_mod")
    assert module not in lio.loaded()
    (lio.CFS / fabric).mkdir()
    assert module in lio.loaded()
    assert lio.run("rmmod", module, check=False).returncode != 0, "in use"
    (lio.CFS / fabric).rmdir()
    lio.run("rmmod", module)


@pytest.mark.parametrize("module,plugin", [("target_core_file", "fileio"), ("target_core_iblock", "iblock")])
def test_mkdir_loads_the_back_end(module, plugin):
    lio.modprobe("target_core_mod")
    assert module not in lio.loaded()
    (lio.CORE / f"{plugin}_0").mkdir()
    assert module in lio.loaded()
    (lio.CORE / f"{plugin}_0/x").mkdir()
    assert lio.run("rmmod", module, check=False).returncode != 0, "in use"
    (lio.CORE / f"{plugin}_0/x").rmdir()
    (lio.CORE / f"{plugin}_0").rmdir()
    lio.run("rmmod", module)


def test_unknown_names_are_refused():
    lio.modprobe("target_core_mod")
    with lio.refused():
        (lio.CFS / "nosuchfabric").mkdir()
    with lio.refused():
        (lio.CORE / "nosuchplugin_0").mkdir()
    with lio.refused():
        (lio.CORE / "fileio").mkdir()
    with lio.refused():
        (lio.CORE / "fileio_x").mkdir()


def test_core_is_pinned_by_what_uses_it():
    lio.modprobe("tcm_loop")
    assert lio.run("rmmod", "target_core_mod", check=False).returncode != 0
    assert "tcm_loop" in lio.run("ls", "/sys/module/target_core_mod/holders").stdout
    lio.run("rmmod", "tcm_loop")
    lio.ramdisk()
    assert lio.run("rmmod", "target_core_mod", check=False).returncode != 0


def test_which_modules_these_are():
    lio.modprobe("target_core_mod")
    assert ("updates" in lio.run("modinfo", "-n", "target_core_mod").stdout) == (not lio.STOCK)
