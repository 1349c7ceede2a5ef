"""How long a chapter takes to read."""

from subspace_lib.book.reading import PACE, minutes


def notebook(markdown, answer=""):
    output = {"output_type": "display_data", "data": {"text/markdown": answer}}
    return {
        "cells": [
            {"cell_type": "markdown", "source": [markdown]},
            {"cell_type": "code", "source": "word " * 5000, "outputs": [output]},
        ]
    }


def test_words_of_text_and_answers_count_and_tables_code_and_folded_parts_do_not():
    text, table = (
        "word " * 3 * PACE,
        "\n\n| a | b |\n|:--|:--|\n" + "| many words here | 1 |\n" * 500,
    )
    assert minutes(notebook(text)) == 3
    assert minutes(notebook(text, "word " * 2 * PACE)) == 5
    assert minutes(notebook(text, table)) == 3
    folded = "<details><summary>Runs</summary>\n\n" + "word " * 10 * PACE + "\n\n</details>"
    assert minutes(notebook(text, folded)) == 3
    assert minutes(notebook("")) == 1
