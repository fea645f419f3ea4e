import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfusion_registry.compose.pieces import Break, Close, Open
from perfusion_registry.compose.prompt import (
    Call,
    Prompt,
    Text,
    braces,
    options_of,
    parse_prompt,
    reads_as_before,
    unparse,
)
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.presets import PRESET_NAMES
from perfusion_registry.methods.table import find_method

PERFUSION = find_method("perfusion")


def pieces(source):
    return parse_prompt(source).pieces


def call(name, **options):
    return Call(name, options_of(options))


CASES = {
    "a plain prompt": (Text("a plain prompt"),),
    "": (),
    "teddy*": (Call("teddy"),),
    "A teddy* sailing in a teapot*": (Text("A "), Call("teddy"), Text(" sailing in a "), Call("teapot")),
    "a teddy*, a Teddy*!": (Text("a "), Call("teddy"), Text(", a "), Call("teddy"), Text("!")),
    "the teddy*'s hat": (Text("the "), Call("teddy"), Text("'s hat")),
    "sun_glasses* (Sun-Glasses*)": (
        Call("sun-glasses"),
        Text(" "),
        Open("("),
        Call("sun-glasses"),
        Close(")"),
    ),
    "x-teddy*": (Call("x-teddy"),),
    "--teddy*": (Text("--"), Call("teddy")),
    "teddy*{bias=.55,temperature=.15}": (call("teddy", bias=".55", temperature=".15"),),
    "teddy*{ lock = global , bias=1 } on": (call("teddy", lock="global", bias="1"), Text(" on")),
    "teddy*{residual=.8}": (call("teddy", residual=".8"),),
    "teddy*{preset=editable,bias=.7}": (call("teddy", preset="editable", bias=".7"),),
    "teddy*{}": (Call("teddy"),),
    "teddy*{ any thing = a=b }": (Call("teddy", options_of({"any thing": "a=b"})),),
    r"teddy*\{x}": (Call("teddy"), Text("{x}")),
    "teddy* {x}": (Call("teddy"), Text(" {x}")),
    "2*3 = 6": (Text("2*3 = 6"),),
    "* * *": (Text("* * *"),),
    r"teddy\*": (Text("teddy*"),),
    r"teddy\\*": (Text("teddy\\*"),),
    r"\\teddy*": (Text("\\"), Call("teddy")),
    r"C:\new": (Text(r"C:\new"),),
    "teddy-*": (Text("teddy-*"),),
    "teddy**": (Call("teddy"), Text("*")),
    "r2d2* is 100*": (Call("r2d2"), Text(" is 100*")),
}


@pytest.mark.parametrize(("source", "expected"), CASES.items())
def test_a_prompt_reads_as(source, expected):
    assert pieces(source) == expected


MISTAKES = {
    # source: (what it says, the text that the carets are under)
    "a teddy*s": ("without a space", "teddy*s"),
    "a Größe* here": ("cannot be a concept's name", "Größe*"),
    "a teddy*{bias=.5": ("never closed", "{bias=.5"),
    "a teddy*{bais=.5}": ("no option", "bais"),
    "a teddy*{bias}": ("no value", "bias"),
    "a teddy*{bias=}": ("no value", "bias"),
    "a teddy*{bias=.5,}": ("missing", "}"),
    "a teddy*{bias=half}": ("not a number", "half"),
    "a teddy*{bias=nan}": ("not a number", "nan"),
    "a teddy*{bias=1_0}": ("not a number", "1_0"),
    "a teddy*{bias=.5, bias=.6}": ("set twice", "bias"),
    "a teddy*{temperature=0}": ("greater than 0", "0"),
    "a teddy*{bias= 99 }": ("less than", "99"),
    "a teddy*{lock=closed}": ("no key lock", "closed"),
    "a teddy*{preset=loud}": ("no preset", "loud"),
    "a teddy*{preset=faithful,preset=faithful}": ("set twice", "preset"),
    "a teddy*{residual=-1}": ("greater than or equal to 0", "-1"),
    "a (hat:1.2.3)": ("1.2.3 is no weight", "1.2.3"),
    "a (hat:11)": ("a weight of 11 is beyond 10", "hat"),
    "((a hat:-5):2.5)": ("a weight of -12.5 is beyond 10", "a hat"),
    "a 3po* there": ("cannot be a concept's name", "3po*"),
    "the con* man": ("cannot be a concept's name", "con*"),
    f"{'a' * 65}*": ("cannot be", "a" * 65 + "*"),
}


@pytest.mark.parametrize(("source", "mistake"), MISTAKES.items())
def test_a_mistake_is_shown_under_the_prompt(source, mistake):
    what, marked = mistake
    with pytest.raises(PerfError) as caught:
        braces(parse_prompt(source), "teddy", PERFUSION)
    assert what in caught.value.what
    assert caught.value.hint
    _, line, carets = caught.value.where.split("\n")
    assert line[carets.index("^") : carets.rindex("^") + 1].strip() == marked


def test_the_nearest_option_is_suggested():
    with pytest.raises(PerfError) as caught:
        braces(parse_prompt("a teddy*{temprature=.1}"), "teddy", PERFUSION)
    assert "temperature" in caught.value.hint


def test_a_long_prompt_is_cut_around_the_caret():
    source = "word " * 200 + "teddy*{bias=x}" + " word" * 200
    with pytest.raises(PerfError) as caught:
        braces(parse_prompt(source), "teddy", PERFUSION)
    _, line, carets = caught.value.where.split("\n")
    assert len(line) < 110
    assert line[carets.index("^")] == "x"


def test_the_source_spans_cover_the_source():
    source = r"A \* teddy*{bias=.5} in a \\ teapot*!"
    prompt = parse_prompt(source)
    assert "".join(source[slice(*piece.span)] for piece in prompt.pieces) == source


# Alphabets that make stars, braces and words meet often; any other text must do no harm either.
without_brackets = st.text(alphabet="ab2é*\\{}=,.-_ \nbias", max_size=40)
crowded = st.text(alphabet="ab2é*\\{}=,.-_ \nbias()[]:|1", max_size=40) | st.lists(
    st.sampled_from(["BREAK", " ", "(", ":1.2)", "a", "cat*", "\\"]), max_size=12
).map("".join)
gates = st.fixed_dictionaries(
    {},
    optional={
        "bias": st.floats(0, 2),
        "temperature": st.floats(0, 10, exclude_min=True),
        "lock": st.sampled_from(["local", "global", "none"]),
        "residual": st.floats(0, 4),
        "preset": st.sampled_from(PRESET_NAMES),
    },
)
names = st.from_regex(r"[a-z][a-z0-9]{3,8}(-[a-z0-9]{1,4})?", fullmatch=True).filter(
    lambda name: not name.startswith(("com", "lpt"))
)


@given(crowded | st.text(max_size=60))
def test_any_text_parses_to_itself_or_is_refused_politely(source):
    try:
        prompt = parse_prompt(source)
    except PerfError:
        return
    again = parse_prompt(unparse(prompt))
    assert again == prompt
    assert unparse(again) == unparse(prompt)


@given(st.lists(st.tuples(names, gates, st.text(max_size=12)), max_size=4), st.text(max_size=12))
def test_whatever_is_written_is_read_back(calls, head):
    """Any pieces survive writing and reading, spaced so that no word touches a call."""
    written = [Text(f"{head} ")]
    for name, gate, tail in calls:
        written += [call(name, **gate), Text(f" {tail} ")]
    prompt = Prompt(tuple(written))
    assert parse_prompt(unparse(prompt)) == prompt
    for name, gate, _ in calls[:1]:
        alone = parse_prompt(unparse(Prompt((call(name, **gate),))))
        fields = {setting.key: setting.field for setting in PERFUSION.settings}
        assert braces(alone, name, PERFUSION) == {fields[key]: value for key, value in gate.items()}


@given(without_brackets)
def test_without_stars_or_backslashes_a_prompt_is_its_text(source):
    plain = source.replace("*", "").replace("\\", "")
    assert parse_prompt(plain).spoken({}) == plain


def test_a_call_is_spoken_as_its_word():
    prompt = parse_prompt(r"A teddy*{bias=.5} holding 2\*3 cat* pots")
    assert prompt.spoken({"teddy": "bear", "cat": "kitten"}) == "A bear holding 2*3 kitten pots"
    assert prompt.names == ("teddy", "cat")
    assert unparse(prompt.without_options()) == r"A teddy* holding 2\*3 cat* pots"


def test_what_a_method_does_not_take_is_an_error_at_the_call():
    with pytest.raises(PerfError, match="has no options") as caught:
        braces(parse_prompt("an oak*{bias=.5}"), "oak", find_method("textual-inversion"))
    assert caught.value.where.endswith("^^^^")


WEIGHTS = {
    "an (important) word": [("an ", 1), ("important", 1.1), (" word", 1)],
    "(unnecessary)(parens)": [("unnecessary", 1.1), ("parens", 1.1)],
    "a (house:1.3), [on] a (hill:.5), (((sky))).": [
        ("a ", 1), ("house", 1.3), (", ", 1), ("on", 1 / 1.1), (" a ", 1), ("hill", 0.5), (", ", 1),
        ("sky", 1.1**3), (".", 1),
    ],
    "((a red:1.5) hat:1.2)": [("a red", 1.8), (" hat", 1.2)],
    "(a [red (big)] hat: 2 )": [("a ", 2), ("red ", 2 / 1.1), ("big", 2), (" hat", 2)],
    "(less:-0.5)": [("less", -0.5)],
    "(teddy*{bias=.5}:1.3)'s": [("teddy", 1.3), ("'s", 1)],
    # A bracket is a character where it is no weight that is meant.
    r"a cup \(blue\) \[small\]": [("a cup (blue) [small]", 1)],
    ":) :( ;] (12:00) [16:9] (^_^)": [(":) :( ;] (12:00) [16:9] (^_^)", 1)],
    "(at 10:30) (ratio 16:9)": [("at 10:30", 1.1), (" ", 1), ("ratio 16:9", 1.1)],
    "(in 2020:1.5)": [("in 2020", 1.5)],
    "a (cat": [("a (cat", 1)],
    "a cat) (dog)": [("a cat) ", 1), ("dog", 1.1)],
    "(a [b) c]": [("a [b", 1.1), (" c]", 1)],
    # What A1111 changes from step to step is no weight either.
    "[rain:0.5] [cat|dog] [a:b:3]": [("[rain:0.5] [cat|dog] [a:b:3]", 1)],
    "[a:(b):0.5]": [("[a:", 1), ("b", 1.1), (":0.5]", 1)],
    "break BREAKFAST a-BREAK BREAK_": [("break BREAKFAST a-BREAK BREAK_", 1)],
}  # fmt: skip


@pytest.mark.parametrize("source", WEIGHTS)
def test_brackets_give_weights_as_other_tools_have_them(source):
    prompt = parse_prompt(source)
    said = [(piece.text if isinstance(piece, Text) else piece.name, weight) for piece, weight in prompt.said]
    assert said == [(text, pytest.approx(weight)) for text, weight in WEIGHTS[source]]
    assert prompt.weighted == any(weight != 1 for _, weight in WEIGHTS[source])
    words = {name: name for name in prompt.names}
    assert prompt.spoken(words) == "".join(text for text, _ in WEIGHTS[source])
    assert prompt.with_words(words).spoken({}) == prompt.spoken(words)


@pytest.mark.parametrize("source", [*CASES, *WEIGHTS])
def test_a_prompt_of_before_there_were_weights_means_what_it_did(source):
    """Brackets are characters, and a backslash before one is too."""
    before = parse_prompt(source, plain=True)
    assert not any(isinstance(piece, Open | Close) for piece in before.pieces)
    assert parse_prompt(unparse(before), plain=True) == before
    now = parse_prompt(source).without_options()
    assert reads_as_before(now) == (before.without_options() == now)


def test_break_begins_a_chunk():
    prompt = parse_prompt("a (cat BREAK\na dog:1.2), BREAK teddy* BREAK ")
    assert prompt.pieces == (
        Text("a "), Open("("), Text("cat"), Break(" BREAK\n"), Text("a dog"), Close(")", ":1.2"), Text(","),
        Break(" BREAK "), Call("teddy"), Break(" BREAK "),
    )  # fmt: skip
    assert prompt.broken
    assert prompt.spoken({"teddy": "bear"}) == "a cat a dog, bear "
    assert not parse_prompt("a cat BREAK a dog", plain=True).broken


def test_what_was_typed_is_written_again():
    for source in (
        "a cat BREAK a dog\n\nBREAK (red:1.1)",
        "a ((red)) hat, [blue: (sky:1.20)] :)",
        r"a cup \(blue\) (red:1.2)",
        "(a cat:1.2) (12:00)",
    ):
        assert unparse(parse_prompt(source)) == source
    # Text that would be read as a weight is escaped.
    assert unparse(Prompt((Text("a cup (blue)"),))) == r"a cup \(blue\)"
    assert unparse(Prompt((Text("a cup (blue:99)"),))) == r"a cup \(blue:99\)"
