"""Sounds and brain waves, made by formulas and seeds, for models that listen to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["brain_waves", "piano", "spectrogram", "vowels"]

Array = npt.NDArray[Any]

_FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""Of the vowels in hod, heed, who'd and head (G. Peterson, H. Barney 1952), in Hz."""

_RATE = 250


def vowels(seconds: float, rate: int = 16000, seed: int = 0) -> Array:
    """A voice that says vowels for about a second, pauses, and goes on: float32 in [-1, 1].

    Pulses of a gliding pitch pass three resonators at the vowels' formants.
    """
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    t = np.arange(count) / rate
    pitch = 120 + 25 * np.sin(4.4 * t) + 10 * np.sin(14.5 * t)
    phase = np.cumsum(pitch) / rate % 1
    sound = np.where(phase < np.r_[0, phase[:-1]], 1.0, 0.0) + 0.02 * rng.standard_normal(count)
    spoken = rng.integers(len(_FORMANTS), size=count // 2560 + 1)
    formants = np.array(_FORMANTS)[spoken].repeat(2560, axis=0)[:count].astype(float)
    smooth = np.ones(640) / 640
    for i, bandwidth in enumerate((80, 100, 120)):
        track = np.convolve(np.pad(formants[:, i], (320, 319), mode="edge"), smooth, "valid")
        sound = _resonate(sound, track, bandwidth, rate)
    aloud = np.convolve(np.sin(3.9 * t - 0.3) > -0.2, np.ones(320) / 320, "same")
    sound = sound / np.abs(sound).max() * 0.5 * aloud * (0.6 + 0.4 * np.sin(19.5 * t))
    return (sound + 0.002 * rng.standard_normal(count)).astype(np.float32)


def _resonate(sound: Array, frequency: Array, bandwidth: float, rate: int) -> Array:
    """A resonator of two poles, whose frequency moves."""
    radius = float(np.exp(-np.pi * bandwidth / rate))
    first = (2 * radius * np.cos(2 * np.pi * frequency / rate)).tolist()
    made, before, last = [], 0.0, 0.0
    for x, a in zip(((1 - radius) * sound).tolist(), first, strict=True):
        before, last = last, x + a * last - radius * radius * before
        made.append(last)
    return np.array(made)


def piano(keys: Sequence[int], count: int, rate: int = 22050) -> Array:
    """Notes by MIDI number, struck one after another, held and fading: float32 in [-1, 1]."""
    t = np.arange(count) / rate
    sound = np.zeros(count)
    for i, key in enumerate(keys):
        since = np.maximum(t - 0.1 - 0.3 * i, 0)
        pitch = 440 * 2 ** ((key - 69) / 12)
        tone = sum(np.sin(2 * np.pi * pitch * n * since) / n**1.5 for n in range(1, 8))
        sound += np.where(since > 0, tone * np.exp(-1.5 * since) * (1 - np.exp(-300 * since)), 0)
    noise = np.random.default_rng(sum(keys)).standard_normal(count)
    return (0.3 * sound + 0.001 * noise).astype(np.float32)


def brain_waves(columns: int, seed: int) -> Array:
    """Waves of a channel for ``columns`` half seconds and one more, 250 values a second.

    Noise whose power falls with the frequency, with a rhythm of ten waves a second; from the middle
    on, for odd seeds, the spikes of a seizure, three a second.
    """
    rng = np.random.default_rng(seed)
    count = (columns + 1) * _RATE // 2
    t = np.arange(count) / _RATE
    power = np.fft.rfft(rng.standard_normal(count))
    power[1:] /= np.arange(1, len(power)) ** 0.7
    power[0] = 0
    waves = np.fft.irfft(power, count)
    waves = waves / waves.std() + 0.5 * np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6))
    if seed % 2:
        phase = 3 * t % 1
        spikes = 6 * np.exp(-(((phase - 0.2) / 0.05) ** 2)) - 2 * np.sin(2 * np.pi * phase)
        waves += np.where(t > t[-1] / 2, spikes, 0)
    return waves


def spectrogram(waves: Array) -> Array:
    """What the seizure detector takes: powers at 0 to 99 Hz of one second every half second.

    As its package computes it (brainmaze-eeg-models, ``preprocess_input``): windows of Tukey, power
    densities, every frequency to mean 0 and deviation 1.

    Returns:
        float32 [1, 100, columns].
    """
    waves = (waves - waves.mean()) / waves.std()
    ramp = np.arange(_RATE)
    edge = 0.125 * (_RATE - 1)
    near = np.minimum(ramp, _RATE - 1 - ramp)
    window = np.where(near < edge, 0.5 * (1 - np.cos(np.pi * near / edge)), 1.0)
    starts = range(0, len(waves) - _RATE + 1, _RATE // 2)
    parts = np.stack([waves[s : s + _RATE] for s in starts])
    parts = (parts - parts.mean(axis=1, keepdims=True)) * window
    power = 2 * np.abs(np.fft.rfft(parts)[:, :100]) ** 2 / (_RATE * (window**2).sum())
    power[:, 0] /= 2
    power = (power - power.mean(axis=0)) / np.maximum(power.std(axis=0), 1e-30)
    return power.T[None].astype(np.float32)
