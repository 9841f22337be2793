"""Records what the real `mlflow server` answers: golden.json. Run it in a virtual environment with requirements.txt."""

import json
import pathlib
import tempfile

import checks
import stack
import webhooks


def answers(all, near):
    with tempfile.TemporaryDirectory(prefix="mlflow-golden-") as folder:
        server = stack.Mlflow(folder, near)
        try:
            world = checks.World(server, all)
            return {name: world.outcome(name) for name in all}
        finally:
            server.stop()


def main():
    golden = answers(checks.CHECKS, False) | answers(webhooks.TOLD, True)
    path = pathlib.Path(__file__).parent / "golden.json"
    path.write_text(json.dumps(golden, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{len(golden)} answers in {path}")


if __name__ == "__main__":
    main()
