"""Templates: syntax, values, functions, bounds (contract/control-api.md, 9)."""

import pytest

from swarmkit.api import messages as api
from swarmkit.api.template import Context, TemplateError, expand

CONTEXT = Context(
    service_id="sid",
    service_name="web",
    service_labels={"tier": "front", "com.example.x": "dotted"},
    node_id="nid",
    node_hostname="host",
    node_architecture="x86_64",
    node_os="linux",
    task_id="tid",
    task_name="web.3.tid",
    task_slot="3",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no template } here", "no template } here"),
        ("{{.Service.ID}} {{.Service.Name}}", "sid web"),
        ("{{.Service.Labels.tier}}", "front"),
        ('{{index .Service.Labels "com.example.x"}}', "dotted"),
        ('{{index .Service.Labels "missing"}}', ""),
        ("{{.Node.ID}} {{.Node.Hostname}}", "nid host"),
        ("{{.Node.Platform.Architecture}}/{{.Node.Platform.OS}}", "x86_64/linux"),
        ("{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}", "tid web.3.tid 3"),
        ('{{join "-" .Service.Name .Task.Slot "x"}}', "web-3-x"),
        ('{{.Service.Name | join "-" "a"}}', "a-web"),
        ("a {{- .Task.Slot -}} b", "a3b"),
        ("a {{/* nothing */}} b{{- /* trimmed */ -}} c", "a  bc"),
        ('{{"}}"}}{{`raw\\n`}}{{"a\\tb\\u00e9\\x41"}}', "}}raw\\na\tbéA"),
        ("{{1}}{{-2}} {{1.5}} {{true}} {{0x10}}", "1-2 1.5 true 16"),
        ('{{if eq .Node.Platform.OS "windows" "linux"}}yes{{else}}no{{end}}', "yes"),
        ('{{if false}}a{{else if eq .Task.Slot "3"}}b{{else}}c{{end}}', "b"),
        ("{{if not .Service.Labels}}a{{end}}{{if .Service.Labels}}b{{end}}", "b"),
        ("{{with .Node}}{{.Hostname}}{{end}}{{with nil}}x{{else}}y{{end}}", "hosty"),
        ("{{range $k, $v := .Service.Labels}}{{$k}}={{$v}};{{end}}", "com.example.x=dotted;tier=front;"),
        ("{{range .Service.Labels}}{{.}},{{$.Task.Slot}} {{end}}", "dotted,3 front,3 "),
        ('{{$x := "a"}}{{$x}}{{if true}}{{$x = "b"}}{{end}}{{$x}}', "ab"),
        (
            '{{printf "%s|%5s|%-4v|%03d|%q|%t|%%" .Task.ID "r" "l" 7 "q" true}}',
            'tid|    r|l   |007|"q"|true|%',
        ),
        ('{{print 1 2 "a" "b"}}{{println "x" 1}}', "1 2ab" + "x 1\n"),
        (
            '{{and "a" ""}}{{or "" "b"}}{{len "é"}}{{lt 1 2}}{{ge 2 2}}{{gt 1 2}}{{le 3 2}}',
            "b2truetruefalsefalse",
        ),
        ("{{(.Service).Name}}{{(print .Task.Slot)}}", "web3"),
        ("{{.Node.Platform}} {{.Service.Labels}}", "{x86_64 linux} map[com.example.x:dotted tier:front]"),
        ("}} stays", "}} stays"),
    ],
)
def test_a_template_expands(text: str, expected: str) -> None:
    assert expand(text, CONTEXT) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Nothing.here}}", "can't evaluate field Nothing in type Context"),
        ("{{.Service.Nothing}}", "can't evaluate field Nothing in type Service"),
        ("{{.Service.Name.x}}", "can't evaluate field x of web"),
        ("{{.Service.Labels.missing}}", 'map has no entry for key "missing"'),
        ("{{", "unclosed action"),
        ("{{.Service.Name", "unclosed action"),
        ("{{}}", "missing value for command"),
        ("{{.Service.Name | }}", "missing value for command"),
        ("{{#}}", "unexpected '#'"),
        ("{{(print 1}}", "unclosed left paren"),
        ("{{print 1)}}", r"unexpected <\)>"),
        ("{{if true}}", "without {{end}}"),
        ("{{if true}}{{else}}{{else}}{{end}}", "without {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{range .Service.Name}}{{end}}", "can't iterate"),
        ("{{foo}}", 'function "foo" not defined'),
        ('{{define "x"}}{{end}}', "not supported"),
        ('{{template "x"}}', "not supported"),
        ("{{$x}}", "undefined variable"),
        ("{{if true}}{{$x := 1}}{{end}}{{$x}}", "undefined variable"),
        ("{{$x = 1}}", "undefined variable"),
        ('{{.Service.Name "x"}}', "can't give an argument"),
        ('{{1 | "x"}}', "must be a function"),
        ('{{"\\z"}}', "unknown escape"),
        ('{{"\\Uffffffff"}}', "does not exist"),
        ('{{"\\ud800"}}', "does not exist"),
        ("{{not}}", "wrong number of args for not"),
        ("{{and}}", "wrong number of args for and"),
        ('{{join "," 1}}', "join takes strings"),
        ('{{eq 1 "1"}}', "different kinds"),
        ("{{eq .Node .Node}}", "cannot be compared"),
        ("{{lt true false}}", "no order"),
        ("{{len 1}}", "len of"),
        ("{{index 1 2}}", "can't index"),
        ('{{printf "%d" "x"}}', "does not fit"),
        ('{{printf "%s"}}', "nothing to put"),
        ('{{printf "x" 1}}', "more values than places"),
        ("{{printf 1}}", "needs a format"),
        ("{{" + "(" * 100 + "1" + ")" * 100 + "}}", "nested too deeply"),
        ("{{if true}}" * 100 + "{{end}}" * 100, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        expand(text, CONTEXT)


def test_an_expansion_is_bounded_in_steps_and_output() -> None:
    labels = {str(n): "v" * 1000 for n in range(50)}
    loops = "{{range $.Service.Labels}}" * 4 + "x" + "{{end}}" * 4
    with pytest.raises(TemplateError, match="steps"):
        expand(loops, Context(service_labels=labels))
    wide = "{{range $.Service.Labels}}{{range $.Service.Labels}}{{.}}{{end}}{{end}}"
    with pytest.raises(TemplateError, match="characters"):
        expand(wide, Context(service_labels=labels))


def test_further_functions_can_be_given() -> None:
    functions = {"secret": lambda target: f"<{target}>"}
    assert expand('{{secret "db"}}', CONTEXT, functions) == "<db>"
    with pytest.raises(TemplateError, match='function "secret" not defined'):
        expand('{{secret "db"}}', CONTEXT)


def test_the_context_of_a_task_names_its_slot_or_else_its_node() -> None:
    task = api.Task(id="t", service_id="s", slot=2, node_id="n")
    task.service_annotations.name = "web"
    task.service_annotations.labels["a"] = "b"
    task.annotations.labels["own"] = "not offered"
    description = api.NodeDescription(hostname="h", platform=api.Platform(architecture="arm64", os="linux"))
    context = Context.of_task(task, description)
    text = "{{.Task.Name}} {{.Task.Slot}} {{.Node.Hostname}} {{.Node.Platform.OS}} {{.Service.Labels.a}}"
    assert expand(text, context) == "web.2.t 2 h linux b"
    task.slot = 0
    assert expand("{{.Task.Slot}} {{.Task.Name}}.", Context.of_task(task)) == "n web.n.t."
    assert expand("[{{.Node.Hostname}}{{.Node.Platform.OS}}]", Context.of_task(task)) == "[]"
