"""What the travelling host is: its recipe, its tokenizer, its shape. Knows nothing about how it is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import Gemma3TextConfig, GenerationConfig, PreTrainedTokenizerFast

from lenses.errors import ConfigError

HOST_ID = "phoropter/wordnet-mini-host"
SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
PAD, EOS, BOS = 0, 1, 2
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n'"
    " + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the weights, the corpus apart; it travels in `training.json`."""

    tokens: int = 16_000_000
    """Length of training, in tokens that are predicted; padding is not counted."""
    seed: int = 0
    vocabulary: int = 6144
    hidden: int = 256
    blocks: int = 6
    feed_forward: int = 768
    context: int = 1024
    batch_tokens: int = 4096
    """Tokens of a batch, padding included."""
    longest: int = 320
    """Tokens at which a document is cut."""
    rate: float = 2.5e-3
    """Rate of learning on the plateau."""
    warm_up_tokens: int = 300_000
    decay_share: float = 0.3
    """Share of the training over which the rate falls to zero."""
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest norm of a gradient."""
    common_tellings: int = 4
    """How often an epoch tells a synset that Princeton's tagged texts know: prompts are made of such words."""
    common_from_epoch: int = 3
    """The first epoch that does so; before, every synset is told once."""
    walk_share: float = 0.12
    """Share of the documents that go on to related synsets, so that the host knows longer texts too."""
    chat_share: float = 0.04
    """Share of the documents told as a question and its answer, in the chat format."""

    def __post_init__(self) -> None:
        if self.tokens < 1 or not 0 < self.decay_share <= 1 or self.rate <= 0:
            raise ConfigError(
                f"tokens {self.tokens}, decay share {self.decay_share}, rate {self.rate}: expected at least 1"
                " token, a share above 0 up to 1, and a rate above 0"
            )
        if self.batch_tokens < self.longest or self.longest > self.context:
            raise ConfigError(
                f"a batch of {self.batch_tokens} tokens and a context of {self.context}: expected room for the"
                f" longest document, {self.longest} tokens"
            )
        if self.hidden % 64 or self.vocabulary < 256 + len(SPECIAL_TOKENS):
            raise ConfigError(
                f"hidden {self.hidden}, vocabulary {self.vocabulary}: expected a multiple of 64, and room for"
                f" 256 bytes and {len(SPECIAL_TOKENS)} special tokens"
            )

    def rate_at(self, tokens_seen: int) -> float:
        """The rate of learning after so many tokens: warm-up, plateau, linear fall to 0 at the end."""
        warm = min(1.0, (tokens_seen + 1) / min(self.warm_up_tokens, self.tokens))
        left = (self.tokens - tokens_seen) / (self.decay_share * self.tokens)
        return self.rate * min(warm, max(0.0, min(1.0, left)))


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocabulary` pieces, learnt from texts; every text begins with `<bos>`."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        model_max_length=1024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def host_config(recipe: Recipe) -> Gemma3TextConfig:
    """The host's shape: with the defaults 6.1 million parameters, 12.2 MB in bf16."""
    return Gemma3TextConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.blocks,
        num_attention_heads=recipe.hidden // 64,
        num_key_value_heads=1,
        head_dim=64,
        query_pre_attn_scalar=64,
        max_position_embeddings=recipe.context,
        sliding_window=recipe.context // 4,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        host_id=HOST_ID,
    )


def generation_config() -> GenerationConfig:
    """How the host writes unless told otherwise: greedily, to `<eos>`."""
    return GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, do_sample=False)
