#!/bin/bash
# The mechanical part of the swap: run in a clean checkout of main, then go on with swap.md beside this.
set -e
git rm -rq perfusion_registry/storybook tests/storybook
rm -rf perfusion_registry/storybook tests/storybook  # what git does not know, such as __pycache__
git mv perfusion_registry/storybook2 perfusion_registry/storybook
git mv tests/storybook2 tests/storybook
git mv -f perfusion_registry/storybook/suites/paper.toml perfusion_registry/evaluate/suites/paper.toml
git mv perfusion_registry/storybook/suites/everyday.toml perfusion_registry/evaluate/suites/everyday.toml
# Imports, `python -m`, paths and `import ... as storybook2`; never the strings "storybook2/..." that seed pages.
git grep -lE 'perfusion_registry[./]storybook2|storybook2\.training|tests[./]storybook2' -- '*.py' '*.toml' '*.md' '*.json' Makefile \
  | xargs sed -i -E 's#(perfusion_registry[./])storybook2#\1storybook#g; s#"storybook2\.training"#"storybook.training"#; s#`storybook2\.training#`storybook.training#g; s#tests([./])storybook2#tests\1storybook#g'
sed -i 's/^WORLD_NAME = "storybook2"/WORLD_NAME = "storybook"/' perfusion_registry/storybook/judging.py
sed -i '/^    "storybook2": "perfusion_registry/d' perfusion_registry/evaluate/metrics.py
sed -i 's/{PACKAGE}\.storybook2\.training/{PACKAGE}.storybook.training/' perfusion_registry/storybook/training/{painting,work}.py
sed -i 's/"storybook", "storybook2"),/"storybook"),/; s/in (\["storybook"\], \["storybook2"\])/== ["storybook"]/' tests/test_layers.py
sed -i 's#, "storybook2/training/")#)#' tests/base/test_architectures.py
sed -i 's/import perfusion_registry.storybook as storybook2/import perfusion_registry.storybook as storybook/; s/(storybook2)/(storybook)/; s/storybook2.__file__/storybook.__file__/' tests/storybook/test_suites.py
sed -i 's#SUITES = {path.stem: read_suite(path) for path in sorted((FOLDER / "suites").glob("\*.toml"))}#SUITES = {name: read_suite(path) for name, path in shipped_suites().items()}#; s#import Suite, read_suite#import Suite, read_suite, shipped_suites#' tests/storybook/test_suites.py
sed -i 's/^SUITES = .*/SUITES = {name: read_suite(shipped_suites()[name]) for name in ("everyday", "paper")}/' tests/storybook/test_suites.py
# There is one Storybook now.
git grep -liE 'the second storybook' -- '*.py' '*.toml' ':!docs' | xargs sed -i 's/[Tt]he second Storybook/Storybook/'
# `perf evaluate rivals` on the new cast and in the new world's words (it has no materials, and no cat is in its cast).
sed -i 's/"cat"/"rabbit"/g; s/"a gold {}", "a {} made of glass"/"a blue {}", "a {} with white spots"/; s/"a wooden {}", "a knitted {} on the beach"/"a striped {}", "a yellow {} on the beach"/; s/"a cat on a {} by the fire"/"a rabbit on a {} by the fire"/; s/Storybook.s CLIP model, which would choose another, is young/Storybook'"'"'s CLIP model would choose another/' perfusion_registry/evaluate/suites/rivals.toml
python3 - <<'P'
import re
from pathlib import Path
path = Path("tests/storybook/test_judging.py")
text = path.read_text()
# One world is left: what took two apart goes.
text = text.replace("set(METRICS) > set(WORLD.metrics) > set(world().metrics) - {\"material\"}", "set(METRICS) > set(WORLD.metrics)")
text = text.replace('@pytest.mark.parametrize("name", ["storybook", WORLD_NAME])\n', '@pytest.mark.parametrize("name", [WORLD_NAME])\n')
text = text.replace('    with pytest.raises(PerfError, match="no \'shoe\' in Storybook\'s cast"):\n        sources(suite, path)\n', "")
text = text.replace("from perfusion_registry.errors import PerfError\n", "")
start = text.index("def test_a_base_without_a_recogniser_has_no_judge")  # the embedded base's judges it now
text = text[:start] + text[text.index("def test_its_recogniser_judges"):]
start = text.index("    judge = judge_of(base, bounds, \"cat\")\n")
text = text[:start] + text[text.index("    with_recogniser(folder)\n", start):]
path.write_text(text)
P
