"""The model card: what a bundle is, how well it does, and what it cannot do, in Markdown."""

from typing import Any


def model_card(about: dict[str, Any]) -> str:
    """about: the contents of bundle.json."""
    features, network, decode = about["features"], about["network"], about["decode"]
    title = f"{about['name']}: {about['system']}"
    unit = "pieces of words, of which any word may be made" if about["pieces"] else "a closed list of words"
    lines = [
        f"# {title}",
        "",
        f"Speech recognition distilled by {about['made']['by']} on {about['made']['at'][:10]}: a hybrid of one network "
        "and hidden Markov models, searched over a graph of lexicon and n-gram.",
        "",
        "## Use",
        "",
        "    asr-kd transcribe DIR recording.wav                 # any sample rate and number of channels",
        "    asr-kd transcribe DIR --json --int8 *.flac          # words with times and confidences, 8-bit weights",
        f"    … | asr-kd transcribe DIR --stream                  # raw 16-bit PCM, one channel, {_hertz(features)}",
        "",
        "It needs numpy, soundfile, onnxruntime, kaldifst and kaldi-decoder (scipy where sample rates differ), not",
        "torch; with those and typer alone it is `python -m asr_kd.deploy DIR …`.",
        "",
        "## Measured",
        "",
        *_measured(about["measured"]),
        "",
        *_by_the_bundle(about["measured"].get("bundle")),
        "",
        "## What is inside",
        "",
        "| | |",
        "|---|---|",
        f"| sound | {_hertz(features)}, {features['num_bins']} log-mel filters from {features['low_freq']:g} to "
        f"{features['high_freq']:g} Hz, normalised by {about['normalisation']['by']} |",
        f"| network | {network['layers']} × {network['width']}, {network['parameters']:,} parameters, window of "
        f"{network['left']} + 1 + {network['right']} frames of 10 ms, {network['num_pdfs']} tied states |",
        f"| trained on | corpus kind {about['trained']['corpus']}{_hours(about['measured'])}, seed "
        f"{about['trained']['seed']}, {about['trained']['members']} teachers |",
        f"| search | language-model scale {decode['lm_scale']:g}, word penalty {decode['word_penalty']:g} (in the "
        f"graph), beam {decode['beam']:g}, at most {decode['max_active']} states |",
        *(f"| `{name}` | {entry['bytes']:,} bytes |" for name, entry in about["files"].items()),
        "",
        "## Limits",
        "",
        f"- Its language model knows {unit}; speech unlike that of its training, noise and",
        "  several voices at once raise the error rate.",
        "- Confidences are the network's posteriors of the phones recognised, not probabilities that a word is right.",
        "- A recording is normalised by its own sound, in training that of a whole speaker was taken.",
    ]
    return "\n".join(lines) + "\n"


def _hertz(features: dict[str, Any]) -> str:
    return f"{features['sample_rate']} Hz"


def _hours(measured: dict[str, Any]) -> str:
    return f", {measured['hours']['train']:.1f} h" if "hours" in measured else ""


def _measured(measured: dict[str, Any]) -> list[str]:
    """The float32 network in its experiment, all of a speaker's utterances normalised together."""
    speed = _speed(measured)
    lines = ["In the experiment, with the float32 network and each speaker's utterances normalised together:", ""]
    if "wer" not in measured:
        return [*lines, f"- CPU seconds a second of speech: {speed}", "- not scored"]
    lines += ["| | dev | test |", "|---|---|---|"]
    error = {split: measured["wer"][split] for split in ("dev", "test")}
    lines.append(f"| word error rate, 95 % interval | {' | '.join(map(_rate, error.values()))} |")
    lines.append(f"| words | {' | '.join(str(e['words']) for e in error.values())} |")
    accuracy = (measured["frame_accuracy"][split] for split in ("dev", "test"))
    lines.append(f"| frame accuracy | {' | '.join('–' if a is None else f'{a:.1%}' for a in accuracy)} |")
    lines.append(f"| CPU seconds a second of speech | | {speed} |")
    return lines


def _by_the_bundle(figures: dict[str, dict[str, Any]] | None) -> list[str]:
    """The bundle itself on test, with the weights of either network; None where it was not asked for."""
    if figures is None:
        return [
            "This bundle itself was not measured, so the word error rate of its 8-bit weights is not known;",
            "`asr-kd export` does so with `--measure`.",
        ]
    lines = [
        "By this bundle, of the experiment's features of test; utterances that failed count as empty:",
        "",
        f"| | {' | '.join(figures)} |",
        f"|---{'|---' * len(figures)}|",
    ]
    rows = {
        "word error rate, 95 % interval": [_rate(found) for found in figures.values()],
        "words": [str(found["words"]) for found in figures.values()],
        "utterances that failed": [str(found["failed"]) for found in figures.values()],
        "CPU seconds a second of speech": [_speed(found) for found in figures.values()],
    }
    return lines + [f"| {title} | {' | '.join(cells)} |" for title, cells in rows.items()]


def _rate(errors: dict[str, Any]) -> str:
    return f"{errors['wer']:.1%} [{errors['ci95'][0]:.1%}, {errors['ci95'][1]:.1%}]"


def _speed(measured: dict[str, Any]) -> str:
    return f"{measured['network_rtf']:.3f} network + {measured['search_rtf']:.3f} search"
