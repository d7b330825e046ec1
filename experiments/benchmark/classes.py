"""UCF-101's class names, and token rows of the same lengths for machines without a tokenizer."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from vtd_jax.model.codebook import trim

_NAMES = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball
BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling
BoxingPunchingBag BoxingSpeedBag BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling
CricketShot CuttingInKitchen Diving Drumming Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch
FrontCrawl GolfSwing Haircut HammerThrow Hammering HandstandPushups HandstandWalking HeadMassage
HighJump HorseRace HorseRiding HulaHoop IceDancing JavelinThrow JugglingBalls JumpRope JumpingJack
Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks ParallelBars
PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano
PlayingSitar PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting
RockClimbingIndoor RopeClimbing Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet
SkyDiving SoccerJuggling SoccerPenalty StillRings SumoWrestling Surfing Swing TableTennisShot TaiChi
TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars VolleyballSpiking WalkingWithDog
WallPushups WritingOnBoard YoYo
"""
# tokens of each name; a test compares them with the tokenizer
_LENGTHS = (
    "531222212212333143233222411135422122532223333333112"
    "22133332232223322331314313321122322311322231343422"
)
_SOT, _EOT, _POSITIONS = 49406, 49407, 77


def class_names(count: int) -> list[str]:
    """`count` different names: UCF-101's 101 folder names, then these again with a number."""
    names = _NAMES.split()
    return [
        names[i % len(names)] + (f" {i // len(names) + 1}" if i >= len(names) else "")
        for i in range(count)
    ]


def name_lengths(count: int) -> list[int]:
    """Tokens of each of `class_names(count)`; every digit of a number is one."""
    lengths = [int(length) for length in _LENGTHS]
    numbers = (str(i // len(lengths) + 1) if i >= len(lengths) else "" for i in range(count))
    return [lengths[i % len(lengths)] + len(number) for i, number in enumerate(numbers)]


def stand_in_tokens(lengths: Sequence[int], prompts: int) -> Int32[np.ndarray, "k l"]:
    """Rows as `VTDCLIP.class_tokens` makes them, with random ids instead of the names' tokens.

    The cost of a codebook depends on the lengths only.

    Args:
      lengths: tokens of each name.
      prompts: P_t, 5 or more: as many stand-in words come before the name, and a full stop after
        it.

    Returns:
      int32 `[K, L]`, as long as the longest row.
    """
    rng, rows = np.random.default_rng(0), np.zeros((len(lengths), _POSITIONS), np.int32)
    for row, length in zip(rows, lengths, strict=True):
        inner = rng.integers(1, _SOT, prompts + length + 1)
        row[: len(inner) + 2] = [_SOT, *inner, _EOT]
    return trim(rows)
