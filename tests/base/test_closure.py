from pathlib import Path

from stages.base.closure import closure, code_digest, code_files


def make(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_closure_follows_lazy_and_member_imports(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "stages/__init__.py": "",
            "stages/a/__init__.py": "",
            "stages/a/one.py": "from stages.b import two\n",
            "stages/b/__init__.py": "X = 1\n",
            "stages/b/two.py": "def f():\n    import stages.b.three\n",
            "stages/b/three.py": "from stages.a.four import NAME\n",
            "stages/a/four.py": "NAME = 1\n",
            "stages/a/five.py": "",
        },
    )
    names = [path.as_posix() for path in closure("stages.a.one", tmp_path)]
    assert names == [f"stages/{name}.py" for name in ("a/four", "a/one", "b/__init__", "b/three", "b/two")]
    assert list(code_files("stages.a.one", tmp_path)) == names


def test_code_digest_sees_code_and_not_comments(tmp_path: Path) -> None:
    digests = []
    for number, text in enumerate(("X = 1\n", '"""Doc."""\n# why\nX = (\n    1\n)\n', "X = 2\n")):
        make(tmp_path / str(number), {"stages/__init__.py": "", "stages/a.py": text})
        digests.append(code_digest("stages.a", tmp_path / str(number)))
    assert digests[0] == digests[1] != digests[2]
