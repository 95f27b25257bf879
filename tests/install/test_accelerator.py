"""What install.sh wants to compute on: decided from faked uname, nvcc, nvidia-smi,
sysctl and a Jetson's files.
"""

from __future__ import annotations

import shutil

import pytest

from tests.install.machine import RPC, Machine

ORIN = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: "
    "Wed Jan  8 01:49:37 UTC 2025"
)


def add_gpus(machine: Machine, *gpus: str) -> None:
    """nvidia-smi of a current driver; each of `gpus` as it prints it:
    name, compute capability.
    """
    lines = "\\n".join(gpus)
    machine.add_program("nvidia-smi", f"#!/bin/sh\nprintf '{lines}\\n'\n")


def nvcc(version: str, known: str = "sm_75 sm_80 sm_86 sm_87 sm_89 sm_90") -> str:
    return (
        '#!/bin/sh\n[ "$1" != --version ] || { echo "Cuda compilation tools, release '
        f'{version}, V{version}.99"; exit; }}\n'
        "for word; do case $word in -arch=*) "
        f'case " {known} " in *" ${{word#-arch=}} "*) exit 0 ;; esac ;; esac; done\n'
        "echo \"nvcc fatal   : Value 'sm_x' is not defined for option 'gpu-architecture'\" >&2\n"
        "exit 1\n"
    )


def make_jetson(machine: Machine, chip: str, release: str = ORIN) -> None:
    machine.pretend("Linux", "aarch64")
    machine.write("etc/nv_tegra_release", release)
    machine.write(
        "proc/device-tree/compatible",
        f"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,{chip}\0",
    )
    machine.write("proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")


def test_a_machine_without_a_gpu_computes_on_the_cpu(machine: Machine) -> None:
    machine.add_program("nvcc", nvcc("12.6"))
    plan = machine.plan()
    assert plan["computes"] == "on the CPU (no NVIDIA GPU was found)"
    assert "GGML_CUDA" not in plan["llama.cpp"]


def test_cuda_without_a_gpu_is_refused(machine: Machine) -> None:
    machine.add_program("nvcc", nvcc("12.6"))
    failed = machine.install("--cuda")
    assert failed.returncode == 1
    assert "--cuda was given, but nvidia-smi lists no NVIDIA GPU" in failed.stderr


def test_gpu_and_toolkit_make_a_build_for_these_gpus(machine: Machine) -> None:
    machine.add_program("nvcc", nvcc("12.6"))
    add_gpus(machine, "NVIDIA GeForce RTX 3060, 8.6", "NVIDIA A2, 8.6", "Tesla T4, 7.5")
    done = machine.install()
    assert done.returncode == 0, done.stderr
    build = next(call for call in machine.take_calls() if call.startswith("pip wheel"))
    assert build.endswith(
        f"CMAKE_ARGS={RPC} -DGGML_CUDA=ON '-DCMAKE_CUDA_COMPILER={machine.bin}/nvcc' "
        "'-DCMAKE_CUDA_ARCHITECTURES=75;86'"
    )
    assert "Check that the library uses the GPU" in done.stdout


def test_a_library_that_finds_no_gpu_fails_the_installation(machine: Machine) -> None:
    machine.add_program("nvcc", nvcc("12.6"))
    add_gpus(machine, "Tesla T4, 7.5")
    failed = machine.install(FAKE_GPU_OFFLOAD="False")
    assert failed.returncode == 1
    assert "install.sh failed: Check that the library uses the GPU" in failed.stderr
    assert "the library finds no GPU" in failed.stderr


def test_cpu_forces_the_cpu_and_builds_another_wheel(machine: Machine) -> None:
    machine.add_program("nvcc", nvcc("12.6"))
    add_gpus(machine, "Tesla T4, 7.5")
    forced, free = machine.plan("--cpu"), machine.plan()
    assert forced["computes"] == "on the CPU, as requested"
    assert forced["llama.cpp"] != free["llama.cpp"]
    assert machine.install("--cpu").returncode == 0
    assert "gpu?" not in machine.take_calls()


def test_a_gpu_without_a_toolkit_is_a_remark_unless_cuda_was_asked_for(machine: Machine) -> None:
    add_gpus(machine, "Tesla T4, 7.5")
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "The GPU (Tesla T4) is not used: there is no CUDA toolkit (nvcc)." in done.stdout
    failed = machine.install("--cuda")
    assert failed.returncode == 1
    assert "Tesla T4 was found, but no CUDA toolkit" in failed.stderr


def test_an_old_driver_tells_no_capability_and_llama_cpp_finds_it(machine: Machine) -> None:
    machine.add_program("nvcc", nvcc("12.6"))
    machine.add_program(
        "nvidia-smi",
        "#!/bin/sh\n"
        "case $1 in *compute_cap*)\n"
        '    echo "Field \\"compute_cap\\" is not a valid field to query."; exit 2 ;;\n'
        "esac\n"
        "echo NVIDIA GeForce GTX 1660\n",
    )
    plan = machine.plan()
    assert plan["computes"] == "on CUDA 12.6 for NVIDIA GeForce GTX 1660"
    assert "GGML_CUDA=ON" in plan["llama.cpp"]
    assert "ARCHITECTURES" not in plan["llama.cpp"]


def test_a_toolkit_that_cannot_compile_for_the_gpu_is_told_before_the_build(
    machine: Machine,
) -> None:
    machine.add_program("nvcc", nvcc("13.0"))
    add_gpus(machine, "NVIDIA GeForce GTX 1080, 6.1")
    failed = machine.install()
    assert failed.returncode == 1
    assert "nvcc cannot compile for this GPU (sm_61)" in failed.stderr
    assert "is not defined for option 'gpu-architecture'" in failed.stderr
    assert machine.take_calls() == []


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc here")
def test_the_real_nvcc_is_asked_rightly(machine: Machine) -> None:
    real = str(shutil.which("nvcc"))
    script = (
        f'nvcc="{real}"; PATH="$PATH:/usr/bin"; cuda_version; '
        'cuda_architectures="80;87"; check_nvcc && echo both'
    )
    (machine.bin / "g++").symlink_to(str(shutil.which("g++") or "/nowhere"))
    (machine.bin / "gcc").symlink_to(str(shutil.which("gcc") or "/nowhere"))
    said = machine.call(script)
    assert said.stdout.splitlines()[-1:] == ["both"], said.stderr
    assert machine.call(f'nvcc="{real}"; cuda_architectures=10; check_nvcc').returncode != 0


def test_the_toolkit_is_found_off_the_path(machine: Machine) -> None:
    add_gpus(machine, "Tesla T4, 7.5")
    machine.write("usr/local/cuda/bin/nvcc", nvcc("12.2"))
    (machine.root / "usr/local/cuda/bin/nvcc").chmod(0o755)
    assert machine.plan()["computes"] == "on CUDA 12.2 for Tesla T4 (compute capability 7.5)"


@pytest.mark.parametrize(
    ("chip", "release", "said", "architecture"),
    [
        ("tegra234", ORIN, "JetPack 6, L4T 36.4.3) (compute capability 8.7)", "87"),
        (
            "tegra194",
            "# R35 (release), REVISION: 6.2, GCID: 1",
            "JetPack 5, L4T 35.6.2) (compute capability 7.2)",
            "72",
        ),
        (
            "tegra264",
            "# R38 (release), REVISION: 2.0, GCID: 1",
            "JetPack 7, L4T 38.2.0) (compute capability 11.0)",
            "110",
        ),
    ],
)
def test_a_jetson_is_known_by_its_chip(
    machine: Machine, chip: str, release: str, said: str, architecture: str
) -> None:
    make_jetson(machine, chip, release)
    machine.add_program("nvcc", nvcc("12.6"))
    add_gpus(machine, "Orin (nvgpu), [N/A]")  # what it answers there
    plan = machine.plan()
    assert plan["machine"] == "Linux aarch64"
    assert plan["computes"] == f"on CUDA 12.6 for NVIDIA Jetson Orin Nano ({said}"
    assert f"'-DCMAKE_CUDA_ARCHITECTURES={architecture}'" in plan["llama.cpp"]


def test_a_jetson_without_a_toolkit_fails_and_names_both_ways_out(machine: Machine) -> None:
    make_jetson(machine, "tegra234")
    failed = machine.install()
    assert failed.returncode == 1
    assert "sudo apt-get install nvidia-jetpack" in failed.stderr
    assert "--cpu" in failed.stderr
    assert machine.plan("--cpu")["computes"] == "on the CPU, as requested"


def test_jetpack_4_is_too_old_for_cuda(machine: Machine) -> None:
    make_jetson(machine, "tegra210", "# R32 (release), REVISION: 7.1, GCID: 1")
    machine.add_program("nvcc", nvcc("10.2"))
    failed = machine.install()
    assert failed.returncode == 1
    assert "is CUDA 10.2, but llama.cpp needs 11.0 or newer" in failed.stderr


def test_an_unknown_jetson_needs_its_capability_named(machine: Machine) -> None:
    make_jetson(machine, "tegra999")
    machine.add_program("nvcc", nvcc("12.6"))
    assert "The installer does not know this Jetson's chip: tegra999." in machine.install().stderr
    plan = machine.plan(CMAKE_ARGS="-DCMAKE_CUDA_ARCHITECTURES=130")
    assert plan["llama.cpp"].count("ARCHITECTURES") == 1


@pytest.mark.parametrize(
    ("options", "said"), [((), "on Metal"), (("--cpu",), "on the CPU (Metal is built in")]
)
def test_a_mac_computes_on_metal(machine: Machine, options: tuple[str, ...], said: str) -> None:
    machine.become_a_mac()
    plan = machine.plan(*options)
    assert plan["machine"] == "Darwin arm64"
    assert plan["computes"].startswith(said)


def test_a_mac_has_no_cuda(machine: Machine) -> None:
    machine.become_a_mac()
    assert "There is no CUDA on macOS." in machine.install("--cuda").stderr


def test_a_mac_installs_without_the_tools_of_linux(machine: Machine) -> None:
    machine.become_a_mac()
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "up to date" in machine.install().stdout


def test_a_raspberry_pi_is_a_linux_machine_like_others(machine: Machine) -> None:
    machine.pretend("Linux", "aarch64")
    machine.write(
        "proc/cpuinfo", "CPU part\t: 0xd0b\nFeatures\t: fp asimd evtstrm aes crc32 asimdhp\n"
    )
    machine.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    assert machine.plan()["computes"] == "on the CPU (no NVIDIA GPU was found)"
