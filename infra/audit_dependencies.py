"""Known vulnerabilities of what is locked, as a report: ``make audit-dependencies``.

Always ends with status 0: an advisory of tomorrow does not make the program of today wrong. What
could not be asked about is counted apart, so that silence does not read as good news.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCKS = ("requirements.lock", "requirements-dev.lock")


def main(pip_audit: str) -> None:
    """Ask about each lock file."""
    for lock in LOCKS:
        print(f"{lock}: {report(pip_audit, lock)}")  # noqa: T201


def report(pip_audit: str, lock: str) -> str:
    """What is known of the packages in a lock file."""
    options = ["--format", "json", "--progress-spinner", "off", "--disable-pip", "--require-hashes"]
    command = [pip_audit, *options, "--requirement", lock]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    except OSError as error:
        return f"NOT AUDITED: pip-audit cannot be started ({error.strerror}); is there a network?"
    try:
        return summary(json.loads(answer.stdout)["dependencies"])
    except (ValueError, KeyError):
        last = (answer.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return f"NOT AUDITED: pip-audit could not do its work ({last}); is there a network?"


def summary(packages: list[dict[str, object]]) -> str:
    """One line, and one for each package with something known of it."""
    skipped = sum("skip_reason" in package for package in packages)
    lines = [f"{len(packages) - skipped} of {len(packages)} packages audited"]
    if skipped:
        lines[0] += f"; {skipped} NOT AUDITED: the advisory service does not answer for them"
    for package in packages:
        found = package.get("vulns") or []
        for one in found if isinstance(found, list) else []:
            mend = ", ".join(one["fix_versions"]) or "no version"
            lines.append(f"{package['name']} {package['version']}: {one['id']}, mended in {mend}")
    return "\n  ".join(lines)


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
