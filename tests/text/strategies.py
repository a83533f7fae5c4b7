"""Texts for property tests."""

from hypothesis import strategies as st

from gemwright.text import control

# A literal U+2581 reads back as a space, in SentencePiece too: it is how that library writes spaces.
characters = st.characters(exclude_categories=["Cs"], exclude_characters=control.WORD_BOUNDARY)
plain = st.text(characters, max_size=40)

steering = st.sampled_from(
    [control.BOS_PIECE, control.EOS_PIECE, control.PAD_PIECE, control.UNK_PIECE, *control.CONTROL_PIECES]
)
fragments = st.sampled_from(["<", ">", "<start_of", "_turn>", "|>", "<|fim_", "<unused", "[@", "@]", "<0x41>"])
white_space = st.sampled_from(["\n\n", "  ", "\t\t\t", "\r\n", " ", "<b>", "</table>"])

hostile = st.lists(st.one_of(plain, steering, fragments, white_space), max_size=8).map("".join)
"""Text in which control pieces are spelled, whole, cut and overlapping."""

spaced = st.lists(st.one_of(plain, white_space), max_size=6).map("".join)
"""Text with runs of white space and HTML tags, which have pieces of their own."""
