"""Cross-encoders: of each generation of folders, each family of heads, and each way to scores."""

from __future__ import annotations

from functools import partial
from typing import Any

from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from torch import nn

from golden.generate.backbones import HIDDEN
from golden.generate.builder import FolderBuilder
from golden.generate.case import Case
from golden.generate.files import edit_json

_IDENTITY = "torch.nn.modules.linear.Identity"


def _runs(builder: FolderBuilder, **more: Any) -> None:
    builder.kind, builder.inputs = "CrossEncoder", "pairs"
    builder.run(method="predict")
    builder.run("logits", method="predict", activation_fn="identity")
    for name, kwargs in more.items():
        builder.run(name, method="predict", **kwargs)


def plain(builder: FolderBuilder, kind: str, head: str = "scores", **checkpoint: Any) -> None:
    builder.save_plain(builder.checkpoint(kind, head=head, **checkpoint))
    _runs(builder, **({"softmax": {"apply_softmax": True}} if head == "classes" else {}))


def saved_by_4(builder: FolderBuilder) -> None:
    # Positions of RoBERTa begin behind the padding id: sentence-transformers fails on longer rows.
    plain(builder, "roberta", model_max_length=62)
    stored = {"activation_fn": _IDENTITY, "version": "4.1.0"}
    edit_json(builder.folder / "config.json", lambda config: {**config, "sentence_transformers": stored})


def saved_by_3(builder: FolderBuilder) -> None:
    plain(builder, "electra")
    key = "sbert_ce_default_activation_function"
    edit_json(builder.folder / "config.json", lambda config: {**config, key: _IDENTITY})


def saved_by_6(builder: FolderBuilder) -> None:
    transformer = Transformer(
        str(builder.checkpoint("modernbert", head="scores")), transformer_task="sequence-classification"
    )
    _runs(builder, document={"prompt_name": "document"}, no_prompt={"prompt": ""}, one_by_one={"batch_size": 1})
    prompts = {"query": "Is this relevant? ", "document": "doc: "}
    builder.save([transformer], prompts=prompts, default_prompt_name="query", activation_fn=nn.Tanh())


def pooled(builder: FolderBuilder) -> None:
    transformer = builder.transformer("bert")
    dense = builder.dense(HIDDEN, 1, nn.Identity(), module_output_name="scores")
    assert isinstance(dense, Dense)
    _runs(builder)
    builder.save([transformer, builder.pooling("cls"), dense])


# As rerankers made of causal networks have them: an instruction of its own, which a prompt replaces.
_TEMPLATE = (
    "{%- set ns = namespace(task='Is the document an answer?', query='', document='') -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{%- set ns.task = message.content -%}"
    "{%- elif message.role == 'query' -%}{%- set ns.query = message.content -%}"
    "{%- elif message.role == 'document' -%}{%- set ns.document = message.content -%}"
    "{%- endif -%}{%- endfor -%}"
    "{{- 'Judge.\n<Instruct>: ' + ns.task + '\n<Query>: ' + ns.query + '\n<Document>: ' + ns.document + '\nAnswer:' -}}"
)


def generates(builder: FolderBuilder, false_token_id: int | None, **tokenizer: Any) -> None:
    checkpoint = builder.checkpoint("qwen_noeos", head="causal", tokenizer=tokenizer)
    transformer = Transformer(str(checkpoint), transformer_task="text-generation")
    more = {"instructed": {"prompt": "Find a reply."}} if tokenizer else {}
    _runs(builder, **more)
    builder.save([transformer, LogitScore(true_token_id=70, false_token_id=false_token_id)])


CASES: dict[str, Case] = {
    "reranker_bert": Case("config.json alone, one label: sigmoid", partial(plain, kind="bert")),
    "reranker_bert_classes": Case("three labels: no activation, softmax", partial(plain, kind="bert", head="classes")),
    "reranker_roberta_v4": Case("activation as 4.x and 5.x stored it, no token types", saved_by_4),
    "reranker_electra_v3": Case("activation as 2.x and 3.x stored it", saved_by_3),
    "reranker_modernbert_v6": Case("modules.json, activation and prompts as 6.x stores them", saved_by_6),
    "reranker_distilbert": Case("a head without a pooler", partial(plain, kind="distilbert")),
    "reranker_deberta": Case("a pooler of its own", partial(plain, kind="deberta")),
    "reranker_xlmr": Case("a head behind positions with an offset", partial(plain, kind="xlmr", model_max_length=62)),
    "reranker_qwen3": Case("a decoder that scores its last token", partial(plain, kind="qwen")),
    "reranker_logit_score": Case(
        "a causal network's logits of two tokens, behind a chat template for pairs, cut at its limit",
        partial(generates, false_token_id=65, chat_template=_TEMPLATE),
    ),
    "reranker_logit_of_one": Case(
        "the logit of one token, of a causal network without a chat template", partial(generates, false_token_id=None)
    ),
    "reranker_pooled_dense": Case("Transformer, Pooling and a Dense that writes scores", pooled),
}
