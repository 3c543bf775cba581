from mvar_jax.evaluation.markdown import markdown_table


def test_a_table_in_markdown():
    table = markdown_table(("name", "ms"), [("a", "1"), ("b", "2")])
    assert table == "| name | ms |\n|---|---|\n| a | 1 |\n| b | 2 |"
