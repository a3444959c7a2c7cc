"""For each chapter: wrong answers, each with a part of the hint meant for it; right ones, written otherwise."""
