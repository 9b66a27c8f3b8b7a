"""Transformer: a transformers network and its tokenizer as the first module of a stack."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from tokenizers import AddedToken, Tokenizer
from torch.nn import functional

from stcompile.artifact.manifest import SENTENCE, TOKENS, QueryExpansion, TextSpec
from stcompile.compiler.kinds.transformer import CLASSIFIES, FEATURES, FILLS, FIXED, GENERATES, KIND, TASKS
from stcompile.compiler.modules.adapter import base_of, merged
from stcompile.compiler.modules.backbone import load_config, load_network, quiet_transformers, usable_positions
from stcompile.compiler.modules.base import UNSEEN, Example, Features, InputModule, SavedModule, named_tasks
from stcompile.compiler.modules.chat import ChatRenderer, guess_format
from stcompile.compiler.modules.graph_network import GraphNetwork
from stcompile.compiler.modules.network_inputs import NetworkInputs
from stcompile.compiler.modules.rotary import freeze_frequencies
from stcompile.compiler.modules.tokenizer import limit_of, load_tokenizer, prepend_lowercase
from stcompile.errors import UnsupportedError
from stcompile.runtime.text.base import Text

# What a folder stores of the constructor's arguments.
_STORED = (
    *("transformer_task", "max_seq_length", "model_args", "tokenizer_args", "config_args", "do_lower_case"),
    *("modality_config", "module_output_name", "processing_kwargs"),
    *("query_length", "document_length", "query_expansion", "prefixes"),
)

# Names of the width of what comes out, first existing wins.
_HIDDEN_SIZE_KEYS = ("word_embed_proj_dim", "hidden_size", "d_model", "dim", "n_embd", "emb_dim")

# Above this transformers' tokenizers stop truncating; tokenizer_config.json writes 1e30 for "no limit".
_UNLIMITED = 10**20

# How far layers see, both sides together, where they do not see all.
_WINDOWS = ("local_attention", "sliding_window")

# What sentence-transformers needs to load a model that also has an image side; kept for `save`, never read.
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

# Large enough that the axis is not taken for a constant, small enough for nearly every length limit.
_EXAMPLE_SEQUENCE = 7


# What is taken of a graph that has pooled already.
_POOLED: dict[str, dict[str, Any]] = {"text": {"method": "forward", "method_output_name": "pooler_output"}}

# Networks that compute `1.0 - attention_mask`, which torch's exporter takes apart rightly of floats alone
# (pytorch/pytorch#194381).
_FLOAT_MASKS = ("xlnet",)


class Transformer(InputModule):
    """Runs a transformers network over token ids (spec sections 4, 5 and 17).

    Reads `input_ids` and `attention_mask`, int64 `(batch, sequence)`, and `token_type_ids` where both the
    tokenizer makes them and the network takes them; writes `token_embeddings`
    `(batch, sequence, hidden)` float32, whatever the dtype of the weights on disk, and `all_layer_embeddings`,
    a tuple of as many as the network has layers and one more, where its configuration asks for hidden states.

    Args:
        model_name_or_path: folder or hub id of the network, or folder of an adapter that PEFT trained, whose base is
            loaded and changed by it.
        max_seq_length: most tokens of a row, special tokens included; None takes the smaller of the
            tokenizer's and the network's own limit.
        model_args: further arguments for loading the network.
        tokenizer_args: further arguments for loading the tokenizer; its `model_max_length` wins over
            `max_seq_length`, as in sentence-transformers 5.4+.
        config_args: further arguments for loading the configuration.
        cache_dir: where the hub's files are kept.
        do_lower_case: lower-case in front of the tokenizer's own normalizer.
        tokenizer_name_or_path: where the tokenizer is, if not with the network.
        modality_config: what to call and which of its outputs to take, per modality; `message` puts every
            text in the tokenizer's chat template. None infers it like sentence-transformers.
        module_output_name: feature to write.
        transformer_task: what the network is loaded for: `feature-extraction`, or with the head of
            `sequence-classification`, of `fill-mask`, or of `text-generation`, whose rows are padded on the left.
        processing_kwargs: `text.max_length` and the `chat_template` options are understood.
        query_length: most tokens of a query, a text of the task `query`; None takes that of all texts.
        document_length: the same of the task `document`.
        query_expansion: how queries are made longer: `strategy` (`fixed`, `min`), `length` in tokens, `token` they are
            filled up with (None takes the mask token), `attend`, whether tokens attend to those.
        prefixes: texts in front of others whose first word is to be one token, where the tokenizer knows it as one.
        graph: an ONNX file in its folder that is kept as its network, in the place of weights.
        revision: the hub revision.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelFolderError: files are missing or unreadable.
        UnsupportedError: the tokenizer or the network cannot be compiled.
    """

    config_file: ClassVar[str] = KIND.config_files[0]
    counts_prompt: ClassVar[bool] = True

    def __init__(
        self,
        model_name_or_path: str | Path,
        max_seq_length: int | None = None,
        model_args: dict[str, Any] | None = None,
        tokenizer_args: dict[str, Any] | None = None,
        config_args: dict[str, Any] | None = None,
        cache_dir: str | None = None,
        do_lower_case: bool = False,
        tokenizer_name_or_path: str | Path | None = None,
        *,
        modality_config: dict[str, dict[str, Any]] | None = None,
        module_output_name: str | None = None,
        transformer_task: str = FEATURES,
        processing_kwargs: dict[str, Any] | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        query_expansion: dict[str, Any] | None = None,
        prefixes: Sequence[str] = (),
        graph: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        source = str(model_name_or_path)
        shared: dict[str, Any] = {"trust_remote_code": trust_remote_code, "cache_dir": cache_dir, "revision": revision}
        self.do_lower_case = do_lower_case
        self.transformer_task = transformer_task
        modalities, output = TASKS[transformer_task]
        self.writes = module_output_name or output
        self._hidden_without_head: int | None = None
        self.processing_kwargs = processing_kwargs or {}
        with quiet_transformers():
            base = base_of(source)
            config = load_config(base or source, **shared, **(config_args or {}))
            text = (modality_config or modalities)["text"]
            reads_pooler = text["method"] == "forward" and "pooler_output" in str(text["method_output_name"])
            if graph is not None:
                self.network: Any = GraphNetwork(Path(source), graph, config)
                if self.network.pools:
                    self.writes, modality_config = SENTENCE, _POOLED
            else:
                network = load_network(
                    base or source,
                    config,
                    task=transformer_task,
                    needs_pooler=reads_pooler or transformer_task != FEATURES,
                    **shared,
                    **(model_args or {}),
                )
                self.network = merged(network, source) if base else network
            self.tokenizer = load_tokenizer(
                str(tokenizer_name_or_path or source), max_seq_length, dict(tokenizer_args or {}), shared
            )
        if transformer_task == GENERATES:
            # So that the last position is a token of the text.
            self.tokenizer.padding_side = "left"
        home = Path(source, (config_args or {}).get("subfolder", ""))
        self._processor = {name: (home / name).read_bytes() for name in _PROCESSOR_FILES if (home / name).is_file()}
        self.max_seq_length = self._limit(max_seq_length, dict(tokenizer_args or {}))
        reason = freeze_frequencies(self.network, self.max_seq_length)
        if reason:
            raise UnsupportedError(source, reason)
        if do_lower_case:
            prepend_lowercase(self.tokenizer)
        _register(self.tokenizer, prefixes)
        self.query_length, self.document_length, self.query_expansion = query_length, document_length, query_expansion
        self._filled_up: QueryExpansion | None = None
        self.modality_config = modality_config or self._infer_modalities()
        # Of a network that knows how, the logits of the last position alone.
        self._keeps_last = "logits_to_keep" in inspect.signature(self.network.forward).parameters
        self._inputs = NetworkInputs(self.network, self.tokenizer, self._method_name, source)

    @classmethod
    def build(cls, saved: SavedModule) -> Self:
        home, config = saved.home, saved.entry.config
        options = {key: config[key] for key in _STORED if config.get(key) is not None}
        tokenizer = config.get("tokenizer_name_or_path")
        if tokenizer is not None:
            options["tokenizer_name_or_path"] = saved.folder.inside(str(tokenizer))
        if saved.trust_remote_code and saved.entry.path and any(saved.folder.root.glob("*.py")):
            # transformers looks for a network's code where it is told that the model is, not in a folder of it.
            home = saved.folder.root
            for key in ("model_args", "config_args", *(() if tokenizer else ("tokenizer_args",))):
                options[key] = {**options.get(key, {}), "subfolder": saved.entry.path}
        return cls(home, trust_remote_code=saved.trust_remote_code, graph=saved.graph, **options)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The features a compiled graph takes, in order."""
        names = ("input_ids", "attention_mask")
        return (*names, "token_type_ids") if self._inputs.reads_types else names

    @property
    def features(self) -> frozenset[str]:
        hidden = {"all_layer_embeddings"} if self._shows_hidden_states else set()
        return frozenset({*self.input_names, *hidden})

    @property
    def marks_unseen(self) -> bool:
        """Whether the mask of its graph marks tokens that no token attends to, by 2."""
        return self.query_expansion is not None and not self.query_expansion.get("attend", False)

    def for_task(self, task: str | None) -> Self:
        other = copy.copy(self)
        longer = self.query_expansion if task == "query" else None
        key = f"{task}_length"
        asked = {"query": self.query_length, "document": self.document_length}.get(task or "")
        override = (self.processing_kwargs.get("text") or {}).get("max_length")
        if longer is not None and longer["strategy"] == FIXED:
            key, asked = "query_expansion.length", longer["length"]
        elif override is not None:
            asked = None
        elif longer is not None and asked is not None:
            asked = max(asked, longer["length"])
        if asked is not None:
            other.max_seq_length = self._usable(key, asked)
        if longer is not None:
            other._filled_up = self._expansion(longer)
        return self if other.treatment == self.treatment else other

    @property
    def treatment(self) -> tuple[Any, ...]:
        return (self.max_seq_length, self._filled_up)

    @property
    def vocabulary_size(self) -> int:
        return self._inputs.largest_id + 1

    @property
    def hidden_size(self) -> int:
        """Width of the embeddings it makes; with a head, how many logits."""
        config = self.network.config
        if self.kept is not None:
            return self.kept.width
        if self.transformer_task == CLASSIFIES:
            return int(config.num_labels)
        if self._hidden_without_head is not None:
            return self._hidden_without_head
        if self.makes_logits:
            head = self.network.get_output_embeddings()
            return int(config.vocab_size if head is None else head.weight.shape[0])
        text = getattr(config, "text_config", None)
        if self._method_name == "forward":
            # Of a network with several sides what reads text says it.
            widths = [getattr(side, name, None) for side in (config, text) for name in _HIDDEN_SIZE_KEYS]
        else:
            # SigLIP's text side projects by itself.
            widths = [getattr(config, "projection_dim", None), getattr(text, "projection_size", None)]
        width = next((width for width in widths if isinstance(width, int)), None)
        if width is not None:
            return width
        raise UnsupportedError(config.model_type, "its config.json names no hidden size")

    @property
    def chat(self) -> ChatRenderer | None:
        """The renderer of the chat template every text goes through, or None."""
        message = self.modality_config.get("message")
        if message is None:
            return None
        options = self.processing_kwargs.get("chat_template") or {}
        form = message.get("format", "auto")
        if form == "auto":
            form = guess_format(self.tokenizer, self.network.config.model_type)
        return ChatRenderer(self.tokenizer, form != "flat", options, pairs=self._is_rerankers)

    @property
    def wants_pairs(self) -> bool:  # type: ignore[override]  # a property in place of a field
        return self._is_rerankers and "message" in self.modality_config

    def reads_task(self, *, noted: bool) -> bool:
        # To a network without such a parameter sentence-transformers never hands it.
        return self._inputs.takes_task and (noted or "task" in self.keywords)

    def keywords_of_its_code(self, named: Sequence[str]) -> Sequence[str]:
        return [name for name in named if self._inputs.hands_over(name)]

    @property
    def modality(self) -> str:
        return "message" if "message" in self.modality_config else "text"

    @property
    def task_names(self) -> tuple[str, ...]:
        return named_tasks(self.network.config.to_dict())

    def called_with(self, task: str | None, modality: str | None, *, routed: bool) -> dict[str, Any]:
        # In a route the task is among the features instead.
        return {"task": task} if task is not None and "task" in self.keywords and not routed else {}

    def why_it_failed(self, error: Exception) -> str:
        return self._inputs.wanting(error)

    @property
    def has_image_side(self) -> bool:  # type: ignore[override]  # a property in place of a field
        return "image" in self.modality_config or bool(self._processor)

    def forward(self, features: Features, **keywords: Any) -> Features:
        if self.marks_unseen:
            mask = features["attention_mask"]
            features = {**features, "attention_mask": (mask == 1).to(torch.int64), UNSEEN: mask == 2}
        inputs = {name: features[name] for name in self._inputs.names if name in features}
        path = self.modality_config["text"]["method_output_name"]
        steps = path if isinstance(path, list) else [path]
        # Other methods than forward know one answer alone, and transformers 4 warns of the argument.
        options: dict[str, Any] = {"return_dict": True} if self._method_name == "forward" else {}
        given = {**features, **keywords}
        if self._inputs.takes_task and "task" in given:
            options["task"] = given["task"]
        if "hidden_states" in steps:
            options["output_hidden_states"] = True
        if self.network.config.model_type in _FLOAT_MASKS:
            inputs["attention_mask"] = inputs["attention_mask"].float()
        if self.transformer_task == GENERATES and self._keeps_last:
            options["logits_to_keep"] = 1
        result = self._method(**inputs, **options)
        hidden = {"all_layer_embeddings": result.hidden_states} if self._shows_hidden_states else {}
        return {**features, **hidden, self.writes: follow(result, steps)}

    def tokenize(self, texts: Sequence[Text], prompt: str | None) -> Features:
        """Token ids as transformers' own tokenizer makes them: the reference's text front end.

        Returns:
            `input_ids`, `attention_mask` and maybe `token_type_ids`, int64 `(batch, sequence)`.
        """
        chat = self.chat
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt", "return_attention_mask": True}
        if self.max_seq_length is not None:
            options |= {"truncation": "longest_first", "max_length": self.max_seq_length}
        if chat is not None:
            rendered = [chat.render(text, prompt or "") for text in texts]
            batch = dict(self.tokenizer(rendered, add_special_tokens=False, **options))
            self._restore_tail(batch, chat.tail_ids())
        else:
            first = [(prompt or "") + (text if isinstance(text, str) else text[0]) for text in texts]
            second = [text[1] for text in texts if not isinstance(text, str)]
            if self._fixes_length:
                options |= {"padding": "max_length"}
            batch = dict(self.tokenizer(first, second or None, **options))
            batch = batch if self._filled_up is None else self._made_longer(batch, self._filled_up)
        # A text without any token still needs a position to compute on.
        return self.widened({name: batch[name].long() for name in self.input_names}, 1)

    @property
    def pads_left(self) -> bool:  # type: ignore[override]  # a property in place of a field
        return bool(self.tokenizer.padding_side == "left")

    def widened(self, features: Features, length: int) -> Features:
        missing = max(length - features["input_ids"].shape[1], 0)
        fill = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        where = (missing, 0) if self.pads_left else (0, missing)
        padded = {name: functional.pad(features[name], where, value=fill.get(name, 0)) for name in self.input_names}
        return {**features, **padded} if missing else features

    def front_end(self, file: str) -> tuple[TextSpec, str]:
        """The tokenizer as transformers runs it, not as the folder stores it.

        transformers 5 rebuilds the pipelines of the classes it knows (spec section 5.3), and the vectors to be
        matched come from there. The content is without the padding and truncation of the last call.
        """
        tokenizer, chat = self.tokenizer, self.chat
        spec = TextSpec(
            kind="transformer",
            tokenizer=file,
            max_seq_length=self.max_seq_length,
            padding_side=tokenizer.padding_side,
            truncation_side=tokenizer.truncation_side,
            pad_id=int(tokenizer.pad_token_id),
            pad_type_id=int(tokenizer.pad_token_type_id),
            special_ids=tuple(sorted(tokenizer.all_special_ids)),
            chat=None if chat is None else chat.reduce(),
            split_special_tokens=bool(tokenizer.split_special_tokens),
            takes_pairs=self._inputs.takes_pairs,
            expansion=self._filled_up,
        )
        plain = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        plain.no_padding()
        plain.no_truncation()
        return spec, plain.to_str()

    def examples(self) -> dict[str, Example]:
        limit = self.max_seq_length
        width = _EXAMPLE_SEQUENCE if limit is None else max(2, min(_EXAMPLE_SEQUENCE, limit))
        shape, axes = (2, width), ("batch", "sequence")
        mask = torch.ones(shape, dtype=torch.int64)
        # One padded row, on the side the tokenizer pads: a mask of ones alone lets networks skip the mask.
        mask[1, 0 if self.pads_left else -1] = 0
        ids = torch.arange(shape[0] * width, dtype=torch.int64).reshape(shape) % 5 + 3
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        return {name: Example(values[name], axes) for name in self.input_names}

    def prompt_length(self, prompt: str | None) -> int:
        """Tokens of the lone prompt without a trailing special token (spec section 5.4)."""
        if not prompt or self.chat is not None:
            return 0
        tokens = self.tokenize([prompt], None)
        ids = tokens["input_ids"][0][tokens["attention_mask"][0] > 0].tolist()
        return len(ids) - 1 if ids and ids[-1] in self.tokenizer.all_special_ids else len(ids)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"max_seq_length": self.max_seq_length, "do_lower_case": self.do_lower_case}
        if self.transformer_task != FEATURES:
            config["transformer_task"] = self.transformer_task
        if (self.modality_config, self.writes) != TASKS[self.transformer_task]:
            config |= {"modality_config": self.modality_config, "module_output_name": self.writes}
        stored = {name: getattr(self, name) for name in ("query_length", "document_length", "query_expansion")}
        config |= {name: value for name, value in stored.items() if value is not None}
        return {**config, "processing_kwargs": self.processing_kwargs} if self.processing_kwargs else config

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with quiet_transformers():
            self.network.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        for name, content in self._processor.items():
            (folder / name).write_bytes(content)
        (folder / self.config_file).write_text(json.dumps(self.get_config(), indent=4), encoding="utf-8")

    def out_width(self, in_width: int) -> int:
        return self.hidden_size

    @property
    def makes_logits(self) -> bool:
        """Whether it makes a logit for each token of the vocabulary."""
        return self.transformer_task in (FILLS, GENERATES)

    @property
    def _is_rerankers(self) -> bool:
        """Whether it has a head that scores pairs."""
        return self.transformer_task in (CLASSIFIES, GENERATES)

    def without_head(self) -> torch.nn.Linear | None:
        """The linear layer of the vocabulary that `fill-mask` ends in, which is left out from here on.

        None, and nothing changes, where the network ends in anything else.
        """
        head = self.network.get_output_embeddings()
        places = [name for name, module in self.network.named_modules() if module is head]
        if self.transformer_task != FILLS or not isinstance(head, torch.nn.Linear) or len(places) != 1:
            return None
        parent, _, leaf = places[0].rpartition(".")
        home = self.network.get_submodule(parent)
        features = self.tokenize(["a", "The quick brown fox"], None)
        with torch.inference_mode():
            logits = self(features)[self.writes]
            # transformers' own setter wants a bias, which it writes elsewhere too.
            setattr(home, leaf, torch.nn.Identity())
            try:
                rows = self(features)[self.writes]
                same = rows.shape[-1] == head.in_features and torch.equal(head(rows), logits)
            except Exception:  # code of the model's own, which may look for the layer's weights
                same = False
        if not same:
            setattr(home, leaf, head)
            return None
        self._hidden_without_head = head.in_features
        return head

    def keep_logits(self, ids: Sequence[int]) -> None:
        """Leaves of the vocabulary that `text-generation` makes logits of these tokens alone, in this order.

        Raises:
            UnsupportedError: there is no such token.
        """
        head = self.network.get_output_embeddings()
        if max(ids) >= len(head.weight):
            size = len(head.weight)
            reason = f"its LogitScore takes the logit of token {max(ids)}, and there are {size}: correct its ids"
            raise UnsupportedError(self.network.config.model_type, reason)
        with torch.no_grad():
            kept = torch.nn.Linear(head.weight.shape[1], len(ids), bias=head.bias is not None)
            kept.weight.copy_(head.weight[list(ids)])
            if head.bias is not None:
                kept.bias.copy_(head.bias[list(ids)])
        self.network.set_output_embeddings(kept)

    @property
    def _method_name(self) -> str:
        return str(self.modality_config["text"]["method"])

    @property
    def _method(self) -> Any:
        return getattr(self.network, self._method_name)

    @property
    def _shows_hidden_states(self) -> bool:
        return self._method_name == "forward" and bool(getattr(self.network.config, "output_hidden_states", False))

    @property
    def kept(self) -> GraphNetwork | None:
        """The graph that is kept as its network; None where that is a network of torch."""
        return self.network if isinstance(self.network, GraphNetwork) else None

    @property
    def gives_last_hidden(self) -> bool:
        """Whether what it writes is the network's last hidden state as it is."""
        text = self.modality_config["text"]
        names = ("forward", "last_hidden_state", FEATURES, TOKENS)
        return (text["method"], text["method_output_name"], self.transformer_task, self.writes) == names

    @property
    def _fixes_length(self) -> bool:
        return (
            self._filled_up is not None
            and self.query_expansion is not None
            and (self.query_expansion["strategy"] == FIXED)
        )

    def _expansion(self, longer: dict[str, Any]) -> QueryExpansion:
        """What queries are filled up with.

        Raises:
            UnsupportedError: they are padded in front, or go through a chat template, or there is no such token.
        """
        tokenizer, name = self.tokenizer, self.network.config.model_type
        if self.pads_left:
            reason = (
                "its query_expansion fills queries up in front, where its tokenizer pads: set padding_side to right"
            )
            raise UnsupportedError(name, reason)
        if self.chat is not None:
            reason = (
                "its queries go through a chat template, of which query_expansion would leave the beginning alone: set "
                "query_expansion to null, or remove `message` from its modality_config"
            )
            raise UnsupportedError(name, reason)
        self._check_length(longer)
        token = longer.get("token")
        if token is not None:
            number = tokenizer.convert_tokens_to_ids(token)
            if number is None or (number == tokenizer.unk_token_id and token != tokenizer.unk_token):
                raise UnsupportedError(
                    name, f"its query_expansion.token {token!r} is no token of its tokenizer: correct it"
                )
        else:
            number = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.eos_token_id
            if number is None:
                reason = (
                    "its tokenizer has no mask token to make queries longer with: name one in query_expansion.token"
                )
                raise UnsupportedError(name, reason)
        return QueryExpansion(longer["length"], int(number), bool(longer.get("attend", False)))

    def _check_length(self, longer: dict[str, Any]) -> None:
        """Whether a query that is filled up has positions, and each of its tokens another one to attend to."""
        config, length = self.network.config, longer["length"]
        positions = usable_positions(self.network)
        if positions is not None and length > positions:
            reason = f"its query_expansion.length is {length}, and it has {positions} positions: lower it"
            raise UnsupportedError(config.model_type, reason)
        window = next((size for name in _WINDOWS if isinstance(size := getattr(config, name, None), int)), None)
        # Of an empty text the last token of its own is the one behind the first.
        if window is not None and self.marks_unseen and length - 2 > window // 2:
            raise UnsupportedError(
                config.model_type,
                f"its query_expansion fills queries up to {length} tokens that none attends to, and its layers see "
                f"{window // 2} tokens to either side, so that the last would see nothing: set attend to true, or lower"
                " its length",
            )

    def _made_longer(self, batch: dict[str, Any], longer: QueryExpansion) -> dict[str, Any]:
        """A batch whose rows are filled up to some length with tokens that are scored."""
        missing = max(longer.length - batch["input_ids"].shape[1], 0)
        batch = {name: functional.pad(value, (0, missing)) for name, value in batch.items()}
        mask = batch["attention_mask"]
        new = (mask == 0) & (torch.arange(mask.shape[1]) < longer.length)
        batch["input_ids"] = batch["input_ids"].masked_fill(new, longer.token_id)
        batch["attention_mask"] = mask.masked_fill(new, 1 if longer.is_seen else 2)
        return batch

    def _usable(self, key: str, limit: int) -> int:
        """A length of some task, no more than there are positions.

        Raises:
            UnsupportedError: it leaves no room for a text, or queries are made longer than there are positions.
        """
        self._check_room(key, limit)
        positions = usable_positions(self.network)
        return limit if positions is None else min(limit, positions)

    def _check_room(self, key: str, limit: int) -> None:
        special = self.tokenizer.num_special_tokens_to_add()
        if limit < max(special, 1):
            raise UnsupportedError(
                self.network.config.model_type,
                f"its {key} {limit} is less than the {special} special tokens of every text: raise it",
            )

    def _limit(self, max_seq_length: int | None, tokenizer_args: dict[str, Any]) -> int | None:
        positions = usable_positions(self.network)
        own = limit_of(self.tokenizer.model_max_length, "model_max_length of the tokenizer")
        declared = getattr(self.network.config, "max_position_embeddings", -1)
        if max_seq_length is None and "model_max_length" not in tokenizer_args and declared not in (-1, None):
            own = min(own, limit_of(declared, "max_position_embeddings of the network"))
        if self._processor:
            # A processor calls its tokenizer with the `max_length` that is stored with it, before any other.
            own = limit_of(self.tokenizer.init_kwargs.get("max_length") or own, "max_length of the tokenizer")
        override = (self.processing_kwargs.get("text") or {}).get("max_length")
        limit = int(override) if override is not None else own
        if positions is not None and limit > positions:
            self.clamped_from = limit if limit <= _UNLIMITED else None
            limit = positions
        self._check_room("length limit", limit)
        return limit if limit <= _UNLIMITED else None

    def _infer_modalities(self) -> dict[str, dict[str, Any]]:
        plain = TASKS[self.transformer_task][0]
        if getattr(self.tokenizer, "chat_template", None) is None:
            return plain
        form = guess_format(self.tokenizer, self.network.config.model_type)
        return {**plain, "message": {**plain["text"], "format": form}}

    def _restore_tail(self, batch: dict[str, Any], tail: tuple[int, ...]) -> None:
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            length = int(mask.sum())
            if tail and length == self.max_seq_length:
                end = len(ids) if not mask[0] else length
                keep = min(len(tail), length)
                ids[end - keep : end] = ids.new_tensor(tail[-keep:])


def _register(tokenizer: Any, prefixes: Sequence[str]) -> None:
    """Makes the first word of prefixes one token, where the tokenizer has it and splits it all the same.

    As sentence-transformers does for folders of PyLate and of ColBERT, which put those tokens in by their numbers.
    """
    known = {*tokenizer.get_added_vocab(), *tokenizer.get_vocab()}
    new = []
    for prefix in prefixes:
        words = prefix.split(None, 1)
        found = next((text for text in (prefix, *words[:1]) if text in known), None) if words else None
        if found is not None and tokenizer.tokenize(found) != [found]:
            new.append(AddedToken(found, normalized=False, special=True))
    if new:
        tokenizer.add_special_tokens({"additional_special_tokens": new})


def follow(result: Any, steps: Sequence[str | int | None]) -> torch.Tensor:
    """The output at the end of a path; transformers 4 gives a tensor where 5 gives an object with its pooled row."""
    value = result
    for step in steps:
        if step is None:
            value = value if isinstance(value, torch.Tensor) else value["pooler_output"]
        elif not (step == "pooler_output" and isinstance(value, torch.Tensor)):
            value = value[step]
    assert isinstance(value, torch.Tensor)
    return value
