"""Labels that flip at random in every step, and the accuracy and features of a small convolutional network in Flax.

Writes flax_convnet.png. The page "Your own network" explains it.
"""

import numpy as np
from flax import nnx
from matplotlib.figure import Figure

import saddlescope as sc


class Network(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
        self.dense = nnx.Linear(4 * 4 * 8, 4, rngs=rngs)

    def __call__(self, x):
        return self.dense(nnx.relu(self.conv(x)).reshape(len(x), -1))


rng = np.random.default_rng(0)
patterns, classes = rng.normal(size=(4, 8, 8, 1)), rng.integers(4, size=200)
images = patterns[classes] + 2 * rng.normal(size=(200, 8, 8, 1))
model = sc.Model.from_nnx(Network, loss="cross_entropy")
plan = sc.Plan(steps=400, trajectories=4, saves=20, observe=[sc.observe.Accuracy()])

figure = Figure(figsize=(5.6, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="time", ylabel="accuracy on samples held out")
for labels in (None, sc.labels.Flips(0.4)):
    data = sc.Examples(images, classes, labels=labels).split(test=50)
    run = sc.simulate(sc.Problem(model, data), sc.SGD(lr=0.02, batch_size=16), plan)
    accuracy = run.test_accuracy.sel(statistic="mean")
    axes.plot(run.time, accuracy, label=f"labels: {labels}")
    print(f"labels {labels}: accuracy {float(accuracy[-1]):.3f} on samples held out")
axes.legend()
figure.savefig("flax_convnet.png")
