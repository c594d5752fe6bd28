"""Text models of transformers, small, made from configuration classes: nothing is downloaded."""

from __future__ import annotations

from typing import Any

from zoo_inputs import VOCABULARY, Inputs, only_ids, pair, sentences, text

TEXT_FIELDS = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 37, "max_position_embeddings": 64, "num_labels": 3,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
_LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 37, "max_position_embeddings": 64,
    "use_cache": False, "pad_token_id": 0,
}  # fmt: skip
#: The model's class, its configuration's, the configuration, and the inputs.
TEXT: dict[str, tuple[str, str, dict[str, Any], Inputs]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", TEXT_FIELDS, text),
    "bert-masked-lm": ("BertForMaskedLM", "BertConfig", TEXT_FIELDS, text),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", TEXT_FIELDS, text),
    "distilbert": ("DistilBertForSequenceClassification", "DistilBertConfig", {
        "vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37,
        "num_labels": 3}, text),
    "albert": ("AlbertForSequenceClassification", "AlbertConfig",
               {**TEXT_FIELDS, "embedding_size": 16}, text),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig",
                {**TEXT_FIELDS, "embedding_size": 16}, text),
    "deberta": ("DebertaForSequenceClassification", "DebertaConfig",
                {**TEXT_FIELDS, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, text),
    "deberta-v2": ("DebertaV2ForSequenceClassification", "DebertaV2Config",
                   {**TEXT_FIELDS, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, text),
    "mpnet": ("MPNetForSequenceClassification", "MPNetConfig", TEXT_FIELDS, text),
    "camembert": ("CamembertForTokenClassification", "CamembertConfig", TEXT_FIELDS, text),
    "layoutlm": ("LayoutLMForSequenceClassification", "LayoutLMConfig", TEXT_FIELDS, text),
    "mobilebert": ("MobileBertForSequenceClassification", "MobileBertConfig",
                   {**TEXT_FIELDS, "embedding_size": 32, "true_hidden_size": 32,
                    "intra_bottleneck_size": 32}, text),
    "squeezebert": ("SqueezeBertForSequenceClassification", "SqueezeBertConfig",
                    {**TEXT_FIELDS, "embedding_size": 32, "intermediate_size": 64}, text),
    "convbert": ("ConvBertForSequenceClassification", "ConvBertConfig",
                 {**TEXT_FIELDS, "embedding_size": 32}, text),
    "roformer": ("RoFormerForSequenceClassification", "RoFormerConfig",
                 {**TEXT_FIELDS, "embedding_size": 32}, text),
    "fnet": ("FNetForSequenceClassification", "FNetConfig", TEXT_FIELDS, only_ids),
    "funnel": ("FunnelForSequenceClassification", "FunnelConfig", {
        "vocab_size": VOCABULARY, "block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8,
        "d_inner": 37, "num_labels": 3}, text),
    "longformer": ("LongformerForSequenceClassification", "LongformerConfig",
                   {**TEXT_FIELDS, "attention_window": 8}, text),
    "bigbird": ("BigBirdForSequenceClassification", "BigBirdConfig",
                {**TEXT_FIELDS, "attention_type": "original_full"}, text),
    "nystromformer": ("NystromformerForSequenceClassification", "NystromformerConfig",
                      {**TEXT_FIELDS, "num_landmarks": 8, "segment_means_seq_len": 16}, text),
    "yoso": ("YosoForSequenceClassification", "YosoConfig",
             {**TEXT_FIELDS, "use_expectation": True}, text),
    "canine": ("CanineForSequenceClassification", "CanineConfig",
               {**TEXT_FIELDS, "num_hash_buckets": 64, "local_transformer_stride": 8}, text),
    "xlnet": ("XLNetForSequenceClassification", "XLNetConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 37,
        "num_labels": 3, "use_mems_eval": False}, text),
    "xlm": ("XLMForSequenceClassification", "XLMConfig", {
        "vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "num_labels": 3,
        "max_position_embeddings": 64}, text),
    "modernbert": ("ModernBertForSequenceClassification", "ModernBertConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 37, "num_labels": 3, "pad_token_id": 0,
        "reference_compile": False}, text),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
        "use_cache": False}, text),
    "gpt-neo": ("GPTNeoForCausalLM", "GPTNeoConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
        "attention_types": [[["global", "local"], 1]], "window_size": 7, "use_cache": False,
        "max_position_embeddings": 64}, text),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _LLAMA, text),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4,
        "n_positions": 64, "use_cache": False}, text),
    "opt": ("OPTForCausalLM", "OPTConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 37,
        "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32,
        "use_cache": False}, text),
    "bloom": ("BloomForCausalLM", "BloomConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4,
        "use_cache": False}, text),
    "falcon": ("FalconForCausalLM", "FalconConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "use_cache": False}, text),
    "llama": ("LlamaForCausalLM", "LlamaConfig", _LLAMA, text),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**_LLAMA, "sliding_window": 8}, text),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig",
                {**_LLAMA, "intermediate_size": 48, "num_local_experts": 4,
                 "num_experts_per_tok": 2}, text),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _LLAMA, text),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {**_LLAMA, "head_dim": 8}, text),
    "phi": ("PhiForCausalLM", "PhiConfig", _LLAMA, text),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", _LLAMA, text),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", _LLAMA, text),
    "mamba": ("MambaForCausalLM", "MambaConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8,
        "use_cache": False}, only_ids),
    "rwkv": ("RwkvForCausalLM", "RwkvConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "attention_hidden_size": 32, "intermediate_size": 37, "context_length": 64,
        "use_cache": False}, only_ids),
    "t5": ("T5ForConditionalGeneration", "T5Config", {
        "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2,
        "num_heads": 4, "use_cache": False}, pair),
    "t5-encoder": ("T5EncoderModel", "T5Config", {
        "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2,
        "num_heads": 4, "use_cache": False}, only_ids),
    "bart": ("BartForSequenceClassification", "BartConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "max_position_embeddings": 64, "use_cache": False,
        "num_labels": 3}, sentences),
    "marian": ("MarianMTModel", "MarianConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "max_position_embeddings": 64, "use_cache": False,
        "pad_token_id": 0, "decoder_start_token_id": 0}, pair),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "max_position_embeddings": 64, "use_cache": False}, pair),
    "ernie": ("ErnieForSequenceClassification", "ErnieConfig", TEXT_FIELDS, text),
    "rembert": ("RemBertForSequenceClassification", "RemBertConfig",
                {**TEXT_FIELDS, "input_embedding_size": 16, "output_embedding_size": 16}, text),
    "esm": ("EsmForSequenceClassification", "EsmConfig",
            {**TEXT_FIELDS, "pad_token_id": 0, "mask_token_id": 1,
             "position_embedding_type": "rotary"}, text),
    "splinter": ("SplinterForQuestionAnswering", "SplinterConfig", TEXT_FIELDS, text),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", _LLAMA, text),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config",
               {**_LLAMA, "head_dim": 8, "sliding_window": 8}, text),
    "mamba2": ("Mamba2ForCausalLM", "Mamba2Config", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8,
        "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8, "use_cache": False},
        only_ids),
}  # fmt: skip
