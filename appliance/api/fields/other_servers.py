"""What requests to OpenAI, vLLM, SGLang, TGI, OpenRouter, Ollama and llama.cpp have beyond
what is done here: hints are taken, and the rest where it asks for nothing.

Knows no endpoint. Names of theirs for something that there is here stand with that
field, as its aliases.
"""

from __future__ import annotations

from typing import Annotated, Any

from appliance.api.fields.adapters import AdapterFields
from appliance.api.fields.neutral import Hint, NeutralOnly


class OtherServersFields(AdapterFields):
    """Part of every request that generates text."""

    # --- where and how it is computed, and what is reported beside the response ---
    cache_salt: Hint = None
    details: Hint = None
    draft_model: Hint = None
    guided_decoding_backend: Hint = None
    id_slot: Hint = None
    kv_transfer_params: Hint = None
    metadata: Hint = None
    prediction: Hint = None
    priority: Hint = None
    prompt_cache_key: Hint = None
    prompt_cache_options: Hint = None
    prompt_cache_retention: Hint = None
    provider: Hint = None
    request_id: Hint = None
    return_progress: Hint = None
    route: Hint = None
    safety_identifier: Hint = None
    service_tier: Hint = None
    session_id: Hint = None
    store: Hint = None  # only responses are
    t_max_prompt_ms: Hint = None
    timings_per_token: Hint = None
    trace: Hint = None
    transforms: Hint = None  # of prompts that are too long: nothing is truncated
    usage: Hint = None
    verbosity: Hint = None

    # --- samplers that there are not ---
    allowed_token_ids: Annotated[Any, NeutralOnly()] = None
    bad_words: Annotated[Any, NeutralOnly([])] = None
    do_sample: Annotated[Any, NeutralOnly(True)] = None
    early_stopping: Annotated[Any, NeutralOnly(False)] = None
    length_penalty: Annotated[Any, NeutralOnly(1)] = None
    logits_processors: Annotated[Any, NeutralOnly([])] = None
    min_keep: Annotated[Any, NeutralOnly(0)] = None
    no_repeat_ngram_size: Annotated[Any, NeutralOnly(0)] = None
    num_beams: Annotated[Any, NeutralOnly(1)] = None
    penalize_nl: Annotated[Any, NeutralOnly(False)] = None
    tfs_z: Annotated[Any, NeutralOnly(1)] = None
    top_a: Annotated[Any, NeutralOnly(0)] = None
    use_beam_search: Annotated[Any, NeutralOnly(False)] = None
    watermark: Annotated[Any, NeutralOnly(False)] = None

    # --- what else would change the text ---
    adapter_id: Annotated[Any, NeutralOnly("")] = None
    context: Annotated[Any, NeutralOnly([])] = None
    ebnf: Annotated[Any, NeutralOnly("")] = None
    extra_body: Annotated[Any, NeutralOnly({})] = None  # a client's own word for further fields
    guided_whitespace_pattern: Annotated[Any, NeutralOnly()] = None
    images: Annotated[Any, NeutralOnly([])] = None
    include_stop_str_in_output: Annotated[Any, NeutralOnly(False)] = None
    models: Annotated[Any, NeutralOnly([])] = None
    n_indent: Annotated[Any, NeutralOnly(0)] = None
    n_keep: Annotated[Any, NeutralOnly(0, -1)] = None
    options: Annotated[Any, NeutralOnly({})] = None
    parameters: Annotated[Any, NeutralOnly({})] = None
    plugins: Annotated[Any, NeutralOnly([])] = None
    raw: Annotated[Any, NeutralOnly(False)] = None
    skip_special_tokens: Annotated[Any, NeutralOnly(True)] = None
    spaces_between_special_tokens: Annotated[Any, NeutralOnly(True)] = None
    stop_token_ids: Annotated[Any, NeutralOnly([])] = None
    system: Annotated[Any, NeutralOnly("")] = None
    t_max_predict_ms: Annotated[Any, NeutralOnly(0, -1)] = None
    template: Annotated[Any, NeutralOnly("")] = None
    truncate: Annotated[Any, NeutralOnly()] = None
    truncate_prompt_tokens: Annotated[Any, NeutralOnly()] = None

    # --- what would change what comes back ---
    decoder_input_details: Annotated[Any, NeutralOnly(False)] = None
    include_reasoning: Annotated[Any, NeutralOnly(True)] = None
    n_probs: Annotated[Any, NeutralOnly(0)] = None
    parse_tool_calls: Annotated[Any, NeutralOnly(True)] = None
    post_sampling_probs: Annotated[Any, NeutralOnly(False)] = None
    prompt_logprobs: Annotated[Any, NeutralOnly(False)] = None
    reasoning_format: Annotated[Any, NeutralOnly("auto", "deepseek", "parsed")] = None
    response_fields: Annotated[Any, NeutralOnly([])] = None
    return_full_text: Annotated[Any, NeutralOnly(False)] = None
    return_token_ids: Annotated[Any, NeutralOnly(False)] = None
    return_tokens: Annotated[Any, NeutralOnly(False)] = None
    return_tokens_as_token_ids: Annotated[Any, NeutralOnly(False)] = None
    separate_reasoning: Annotated[Any, NeutralOnly(True)] = None
    top_n_tokens: Annotated[Any, NeutralOnly(0)] = None
