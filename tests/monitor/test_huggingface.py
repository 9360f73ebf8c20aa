"""The Hugging Face callback on tiny models that are built here: exact samples, bit-identical training, resuming."""

import warnings

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from saddlescope.monitor import Watch  # noqa: E402
from saddlescope.monitor.huggingface import STATE, WatchCallback  # noqa: E402
from saddlescope.monitor.loggers import InMemory  # noqa: E402

VOCABULARY, LENGTH = 13, 6


@pytest.fixture(autouse=True)
def quiet():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*pin_memory.*")
        yield
    torch.set_num_threads(threads)


def gpt2():
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
        )
    )


def llama():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
        )
    )


def data(n=24):
    """Sequences whose ends are not predicted, so that samples weigh differently."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCABULARY, (n, LENGTH), generator=generator)
    labels = tokens.masked_fill(torch.arange(LENGTH) >= torch.randint(3, 7, (n, 1), generator=generator), -100)
    return [{"input_ids": a, "labels": b} for a, b in zip(tokens, labels, strict=True)]


def train(model, folder, *callbacks, resume=None, trainer=transformers.Trainer, **arguments):
    settings = transformers.TrainingArguments(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 4,
            "num_train_epochs": 1,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "logging_strategy": "no",
            "seed": 5,
        }
        | arguments
    )
    done = trainer(model, settings, train_dataset=data(), callbacks=list(callbacks))
    done.train(resume_from_checkpoint=resume)
    return done


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) + sum(
        len(p._backward_hooks or ()) + len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()
    )


def worst(watch):
    checks = [x for record in watch.records for x in record.values["check"].values()]
    return max(float(x) for x in checks if not x.isnan())


CASES = {
    "plain": {},
    "accumulation and clipping": {"gradient_accumulation_steps": 2, "max_grad_norm": 0.05},
    "bf16": {"bf16": True},
    "checkpointing": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("case", CASES)
def test_training_is_bit_identical_and_every_sample_is_seen(case, make, tmp_path):
    plain, watched = make(), make()
    train(plain, tmp_path, **CASES[case])
    callback = WatchCallback(schedule=1, samples=None)
    train(watched, tmp_path, callback, **CASES[case])
    assert same(plain, watched) and hooks(watched) == hooks(plain)
    steps, size = (3, 8) if "accumulation" in case else (6, 4)
    assert [(r.step, r.batch_size) for r in callback.watch.records] == [(step, size) for step in range(steps)]
    assert worst(callback.watch) < (4e-2 if case == "bf16" else 1e-5)


def test_samples_weigh_as_many_tokens_as_they_have(tmp_path):
    """The loss is divided by the tokens of the step: the callback agrees with a loop that does so by hand."""
    callback = WatchCallback(schedule=1, samples=None)
    settings = {"gradient_accumulation_steps": 2, "max_steps": 1, "seed": 5}
    train(llama(), tmp_path, callback, **settings)

    class Order(transformers.Trainer):
        batches = ()

        def training_step(self, model, inputs, num_items_in_batch=None):
            self.batches = (*self.batches, {k: v.clone() for k, v in inputs.items()})
            return super().training_step(model, inputs, num_items_in_batch)

    batches = train(llama(), tmp_path, trainer=Order, **settings).batches
    model = llama()
    watch, items = Watch(model, schedule=1, samples=None), sum(int((b["labels"][:, 1:] != -100).sum()) for b in batches)
    with watch.step():
        for batch in batches:
            (model(**batch, num_items_in_batch=torch.tensor(items)).loss).backward()
    (one,), (other,) = callback.watch.records, watch.records
    for variable, by_key in one.values.items():
        for key, value in by_key.items():
            if variable != "check":
                torch.testing.assert_close(value, other.values[variable][key], equal_nan=True, rtol=1e-4, atol=1e-6)


def test_a_resumed_training_goes_on_with_its_records(tmp_path):
    arguments = {"schedule": 2, "samples": None}
    whole = WatchCallback(**arguments)
    train(gpt2(), tmp_path / "whole", whole, num_train_epochs=1)
    first = WatchCallback(**arguments)
    train(gpt2(), tmp_path / "two", first, max_steps=3, save_strategy="steps", save_steps=3)
    assert (tmp_path / "two" / "checkpoint-3" / STATE).exists()
    second = WatchCallback(**arguments)
    train(gpt2(), tmp_path / "two", second, resume=True)
    assert [r.step for r in first.watch.records] == [0, 2]
    assert [r.step for r in second.watch.records] == [r.step for r in whole.watch.records] == [0, 2, 4]
    (tmp_path / "two" / "checkpoint-3" / STATE).unlink()
    with pytest.warns(UserWarning, match="^monitor: no records from before in "):
        train(gpt2(), tmp_path / "two", WatchCallback(**arguments), resume=True)


def test_conditions_stop_the_training_and_loggers_get_the_numbers(tmp_path):
    kept = InMemory()
    callback = WatchCallback(schedule=1, loggers=[kept])
    callback.when(lambda now: now["total_trace"] > 0, "stop", "noise")
    done = train(gpt2(), tmp_path, callback)
    assert done.state.global_step == 1 and [step for step, _ in kept.rows] == [0, 0]
    with pytest.raises(TypeError, match="shedule"):
        WatchCallback(shedule=1)


def test_a_context_leaves_no_hook_after_an_exception(tmp_path):
    class Failing(transformers.Trainer):
        def compute_loss(self, model, inputs, **kwargs):
            loss = super().compute_loss(model, inputs, **kwargs)
            if self.state.global_step == 2:
                raise RuntimeError("the loss failed")
            return loss

    model = gpt2()
    with pytest.raises(RuntimeError, match="the loss failed"), WatchCallback(schedule=1) as callback:
        train(model, tmp_path, callback, trainer=Failing)
    assert hooks(model) == 0 and len(callback.watch.records) == 2


@pytest.mark.parametrize("stance", ["probe", "eager"])
def test_compiled_models(stance, tmp_path):
    """Hooks do not fire there: weights alone are watched, or sampled steps run uncompiled."""
    compiled = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 3}
    plain, watched = llama(), llama()

    class Sampled(transformers.Trainer):
        """Steps that are sampled run uncompiled, which rounds differently on some processors."""

        def training_step(self, *arguments, **options):
            with torch.compiler.set_stance("force_eager" if self.state.global_step % 2 == 0 else "default"):
                return super().training_step(*arguments, **options)

    train(plain, tmp_path, trainer=Sampled if stance == "eager" else transformers.Trainer, **compiled)
    callback = WatchCallback(schedule=2, samples=None, stance=stance)
    with warnings.catch_warnings(record=True) as found:
        train(watched, tmp_path, callback, **compiled)
    assert same(plain, watched) and hooks(watched) == 0
    assert [record.step for record in callback.watch.records] == [0, 2]
    told = [str(one.message) for one in found if "monitor: the model is compiled" in str(one.message)]
    assert len(told) == (stance == "probe")
    for record in callback.watch.records:
        assert "mode_strength" in record.values and ("trace" in record.values) == (stance == "eager")
