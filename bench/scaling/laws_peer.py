"""The Epoch AI notebook's bootstrap of the Chinchilla law (Besiroglu et al. 2024): run by bench/scaling/laws.py.

Its objective, start and optimiser: BFGS from Hoffmann et al.'s constants on every resample, the gradient by autograd as
there, and the same loop with a gradient written by hand. Reads {N, D, loss, indices} as JSON; prints
{"hand": {seconds, params}, "autograd": {seconds, params}} as JSON.
"""

import json
import sys
import time

import autograd.numpy as np
import numpy
from autograd import grad
from scipy.optimize import minimize

START = [6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083]
DELTA = 1e-3


def objective(params, N, D, losses):
    a, b, e, alpha, beta = params
    predicted = np.log(np.exp(a - alpha * np.log(N)) + np.exp(b - beta * np.log(D)) + np.exp(e))
    gap = np.log(losses) - predicted
    return np.sum(np.where(np.abs(gap) <= DELTA, 0.5 * gap**2, DELTA * (np.abs(gap) - 0.5 * DELTA)))


def by_hand(params, N, D, losses):
    a, b, e, alpha, beta = params
    x, y = numpy.log(N), numpy.log(D)
    terms = numpy.stack([numpy.exp(a - alpha * x), numpy.exp(b - beta * y), numpy.full_like(x, numpy.exp(e))])
    total = terms.sum(0)
    pull = numpy.clip(numpy.log(total) - numpy.log(losses), -DELTA, DELTA) * (terms / total)
    return numpy.array([pull[0].sum(), pull[1].sum(), pull[2].sum(), -(pull[0] @ x), -(pull[1] @ y)])


def loop(gradient, N, D, losses, indices):
    start = time.perf_counter()
    found = [
        minimize(objective, START, args=(N[rows], D[rows], losses[rows]), jac=gradient, method="BFGS").x.tolist()
        for rows in indices
    ]
    return {"seconds": time.perf_counter() - start, "params": found}


def main():
    given = json.load(sys.stdin)
    N, D, losses = (numpy.array(given[name]) for name in ("N", "D", "loss"))
    indices = numpy.array(given["indices"])
    gradients = {"hand": by_hand, "autograd": grad(objective)}
    print(json.dumps({name: loop(gradient, N, D, losses, indices) for name, gradient in gradients.items()}))


if __name__ == "__main__":
    main()
