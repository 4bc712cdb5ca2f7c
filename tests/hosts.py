"""Tiny hosts of every kind that is watched: random but not degenerate, made in memory in milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipVisionConfig,
)

VOCABULARY = 64
HIDDEN = 16
BLOCKS = 3
PAD, EOS, BOS = 0, 1, 2

# Large weights: with the usual 0.02 every continuation of a random model is the same token again and again.
_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "tie_word_embeddings": False,
}


def _gemma3_text(**changes: Any) -> Gemma3TextConfig:
    settings = _DECODER | {
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 8,
    }
    return Gemma3TextConfig(**(settings | changes))


def _ready(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = make().eval()
    # Endless by default, so that tests count tokens; those of an ending give eos_token_id themselves.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD
    return model


def gemma3(**changes: Any) -> Any:
    """A Gemma-3 text model whose first two blocks see 4 tokens back."""
    return _ready(lambda: Gemma3ForCausalLM(_gemma3_text(**changes)))


def gemma3_multimodal() -> Any:
    """A Gemma-3 that can see: its text model is nested, as in the checkpoints from 4B on."""
    vision = SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=BLOCKS,  # as many as the text model: the two lists must not be confused
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    config = Gemma3Config(
        text_config=_gemma3_text(),
        vision_config=vision,
        mm_tokens_per_image=1,
        image_token_index=60,
        boi_token_index=61,
        eoi_token_index=62,
        initializer_range=0.4,
        tie_word_embeddings=False,
    )
    return _ready(lambda: Gemma3ForConditionalGeneration(config))


def llama(**changes: Any) -> Any:
    """A Llama."""
    return _ready(lambda: LlamaForCausalLM(LlamaConfig(**(_DECODER | changes))))


def qwen2() -> Any:
    """A Qwen-2."""
    settings = {name: value for name, value in _DECODER.items() if name != "head_dim"}
    return _ready(lambda: Qwen2ForCausalLM(Qwen2Config(**settings)))


def qwen3() -> Any:
    """A Qwen-3."""
    return _ready(lambda: Qwen3ForCausalLM(Qwen3Config(**_DECODER)))


def gpt2() -> Any:
    """A GPT-2."""
    return _ready(
        lambda: GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=HIDDEN,
                n_layer=BLOCKS,
                n_head=2,
                n_positions=128,
                initializer_range=0.4,
                bos_token_id=BOS,
                eos_token_id=EOS,
                pad_token_id=PAD,
            )
        )
    )


HOSTS: dict[str, Callable[[], Any]] = {
    "gemma3": gemma3,
    "gemma3_multimodal": gemma3_multimodal,
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gpt2": gpt2,
}
"""Every class of host, by name."""

WORDS = [
    *"abcdefghijklmnopqrstuvwxyz",
    "the",
    "violin",
    "dog",
    "cat",
    "is",
    "plays",
    "sits",
    "in",
    "house",
    "it",
]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}it {% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words over the hosts' vocabulary: pads on the left, BOS first, knows chats."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", *WORDS]
    words += [f"w{i}" for i in range(len(words), VOCABULARY)]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )


def save(model: Any, directory: Path) -> Path:
    """Save a host with the tokenizer, as a hub checkpoint lies on disk."""
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory
