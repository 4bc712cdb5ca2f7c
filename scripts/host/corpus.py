"""WordNet as documents for a host: which synsets train it, how they are told, and how they share batches.

A batch holds documents of like length, each in a row of its own and padded on the right. So no document sees
another, and since attention looks left only, no row needs a mask.

Shapes: B rows of a batch, T tokens of a row.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from host.recipe import EOS, PAD, Recipe
from lenses.importers.wordnet import WordNet, is_held_out
from lenses.importers.wordnet_texts import Texts


class Corpus:
    """Training and held-out documents. No training text quotes a held-out synset's gloss."""

    def __init__(self, wordnet: WordNet, recipe: Recipe) -> None:
        self.recipe = recipe
        self.training = {one.id: one for one in wordnet.values() if not is_held_out(one)}
        self.held_out = [one for one in wordnet.values() if is_held_out(one)]
        names = {one.id: one.lemmas[0] for one in wordnet.values()}
        self._texts = Texts(self.training, lemma_of=names)

    def texts(self, epoch: int, *, with_chat: bool = True) -> list[str]:
        """The documents of one epoch, shuffled; chat is marked by special tokens.

        Every training synset is told once, from `common_from_epoch` on the common ones several times.
        """
        recipe = self.recipe
        dice = np.random.default_rng([recipe.seed, epoch])
        told = [(one, epoch) for one in self.training.values()]
        if epoch >= recipe.common_from_epoch:
            # A telling is another epoch's to the templates' dice: one that no run comes to.
            again = [epoch + 1000 * telling for telling in range(1, recipe.common_tellings)]
            told += [(one, other) for other in again for one in self.training.values() if one.is_common]
        kinds = dice.random(len(told))
        texts = []
        for index in dice.permutation(len(told)):
            (synset, telling), kind = told[index], kinds[index]
            if kind < recipe.walk_share:
                texts.append(self._texts.walk(synset, seed=recipe.seed, epoch=telling))
            elif kind < recipe.walk_share + recipe.chat_share and with_chat:
                question, answer = self._texts.chat(synset, seed=recipe.seed, epoch=telling)
                asked = f"<start_of_turn>user\n{question}<end_of_turn>\n"
                texts.append(f"{asked}<start_of_turn>model\n{answer}<end_of_turn>")
            else:
                texts.append(self._texts.document(synset, seed=recipe.seed, epoch=telling))
        return texts

    def held_out_texts(self) -> list[str]:
        """One document a held-out synset, always the same."""
        return [self._texts.document(one, seed=self.recipe.seed, epoch=-1) for one in self.held_out]


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Token ids of documents, `<bos>` to `<eos>`, cut at `longest`."""
    found = tokenizer(list(texts), add_special_tokens=True, return_attention_mask=False)["input_ids"]
    return [[*ids, EOS][:longest] for ids in found]


def batches_of(
    documents: Sequence[Sequence[int]], batch_tokens: int, *, order_seed: Sequence[int]
) -> list[list[int]]:
    """Indices of documents that share a batch of at most `batch_tokens`, padding included; shuffled."""
    dice = np.random.default_rng(order_seed)
    lengths = np.array([len(one) for one in documents])
    # Noise before sorting: the same documents should not meet in every epoch.
    order = np.argsort(lengths + dice.random(len(lengths)) * 2, kind="stable")
    batches: list[list[int]] = []
    current: list[int] = []
    widest = 0
    for index in order.tolist():
        length = int(lengths[index])
        widest = max(widest, length)
        if current and widest * (len(current) + 1) > batch_tokens:
            batches.append(current)
            current, widest = [], length
        current.append(index)
    if current:
        batches.append(current)
    return [batches[index] for index in dice.permutation(len(batches))]


def padded(documents: Sequence[Sequence[int]], indices: Sequence[int]) -> torch.Tensor:
    """Documents as rows [B, T] of ids, padded on the right."""
    width = max(len(documents[index]) for index in indices)
    ids_BT = torch.full((len(indices), width), PAD, dtype=torch.long)
    for row, index in enumerate(indices):
        ids_BT[row, : len(documents[index])] = torch.tensor(documents[index])
    return ids_BT
