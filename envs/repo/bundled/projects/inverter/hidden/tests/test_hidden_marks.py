import unicodedata

from inverter import TextIndex, highlight, snippet, words_of


def decomposed(text):
    return unicodedata.normalize("NFD", text)


def test_marks_after_a_sharp_s():
    assert highlight("Die Straße ist lang", "lang") == "Die Straße ist [lang]"
    assert highlight("Große Füße, viel Spaß", "spass viel") == "Große Füße, [viel] [Spaß]"


def test_marks_on_a_word_with_a_sharp_s():
    assert highlight("Die Straße ist lang", "STRASSE") == "Die [Straße] ist lang"
    assert highlight("Masse und Maße", "masse") == "[Masse] und [Maße]"


def test_marks_with_ligatures():
    assert highlight("a ﬁne eﬀect here", "effect here") == "a ﬁne [eﬀect] [here]"


def test_marks_in_decomposed_text():
    text = decomposed("Le café est fermé à midi")
    assert highlight(text, "midi") == decomposed("Le café est fermé à [midi]")


def test_marks_cover_combining_accents():
    text = decomposed("Le café été")
    assert highlight(text, "cafe") == decomposed("Le [café] été")
    assert highlight(text, "ete") == decomposed("Le café [été]")


def test_phrase_marks():
    assert highlight("Maß, große Straße, groß", '"grosse strasse"') == "Maß, [große Straße], groß"


def test_places_cut_the_text_as_written():
    text = "Ein Weißer ﬁel " + decomposed("été") + " auf"
    words = list(words_of(text))
    assert [text[word.start : word.end] for word in words] == text.split()
    assert [word.form for word in words] == ["ein", "weisser", "fiel", "ete", "auf"]


def test_snippet_after_a_sharp_s():
    text = "ßßßß ßßßß ßßßß ßßßß the word stands here and more follows"
    assert snippet(text, "word", 10) == "...he word st..."


def test_both_ways_of_typing_are_one_word():
    index = TextIndex()
    index.add("composed", "L'été à Crète")
    index.add("decomposed", decomposed("L'été à Crète"))
    for query in ("été", decomposed("été"), "ETE", '"ete a crete"'):
        assert index.search(query) == ["composed", "decomposed"]
    assert index.vocabulary() == ["a", "crete", "ete", "l"]


def test_search_with_folding_of_case():
    index = TextIndex()
    index.add("street", "Straße")
    index.add("fish", "ﬁn")
    assert [index.search(query) for query in ("STRASSE", "straße", "FIN", "fi")] == [
        ["street"],
        ["street"],
        ["fish"],
        [],
    ]


def test_plain_marks():
    assert highlight("Crème, crème, CREME!", "creme", "<b>", "</b>") == "<b>Crème</b>, <b>crème</b>, <b>CREME</b>!"
    assert highlight("snake_case 42 x", "snake_case 42") == "[snake_case] [42] x"
    assert highlight("nothing", '"" -nothing') == "nothing"
