from inverter import TextIndex, fold, highlight, snippet, words_of


def small_index():
    index = TextIndex()
    index.add("menu", "Crème brûlée and coffee, and more coffee")
    index.add("list", "Coffee, milk, sugar")
    index.add("note", "Milk is out. Buy sugar!")
    return index


def test_fold():
    assert fold("Crème BRÛLÉE") == "creme brulee"
    assert fold("Straße") == fold("STRASSE") == "strasse"


def test_words_with_their_places():
    assert [tuple(word) for word in words_of("Ice cream")] == [("ice", 0, 3), ("cream", 4, 9)]
    assert [tuple(word) for word in words_of("à la")] == [("a", 0, 1), ("la", 2, 4)]


def test_search_without_case_and_accents():
    assert small_index().search("CREME") == ["menu"]
    assert small_index().search("brûlée") == ["menu"]


def test_all_words():
    assert small_index().search("milk sugar") == ["list", "note"]


def test_or_and_minus():
    assert small_index().search("brulee OR buy") == ["menu", "note"]
    assert small_index().search("sugar -coffee") == ["note"]


def test_phrase():
    assert small_index().search('"coffee milk"') == ["list"]
    assert small_index().search('"milk coffee"') == []


def test_most_hits_first():
    assert small_index().search("coffee") == ["menu", "list"]


def test_replace_and_remove():
    index = small_index()
    index.add("menu", "tea")
    index.remove("note")
    assert index.search("coffee") == ["list"]
    assert index.vocabulary() == ["coffee", "milk", "sugar", "tea"]
    assert len(index) == 2


def test_highlight():
    assert highlight("Crème brûlée, please", "brulee") == "Crème [brûlée], please"
    assert highlight("one two one", '"two one" one') == "[one] [two one]"
    assert highlight("one two", "three") == "one two"


def test_snippet():
    assert snippet("a short text", "text") == "a short text"
    assert snippet("The quick brown fox jumps over the dog", "fox", 11) == "...own fox jum..."
