"""Run a script of bin/ in this process: its exit code, what it printed and what it said."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
from importlib.machinery import SourceFileLoader
from typing import NamedTuple
from unittest import mock

from lib import ROOT, cli


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(script: str, *argv: str, folder: str | None = None, input: str = "", **env: str) -> Ran:
    path, out, err = os.path.join(ROOT, "bin", script), io.StringIO(), io.StringIO()
    loader = SourceFileLoader(script.replace("-", "_"), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    before = os.getcwd()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, env))
        stack.enter_context(mock.patch.object(sys, "argv", [path, *argv]))
        stack.enter_context(mock.patch.object(sys, "stdin", io.StringIO(input)))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.callback(os.chdir, before)
        os.chdir(folder or before)
        loader.exec_module(module)
        try:
            code = cli.run(module.main)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return Ran(code, out.getvalue(), err.getvalue())
