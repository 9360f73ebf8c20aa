"""The predicted decline of the log determinant of two linear layers, against training."""

import torch

from saddlescope.monitor import Watch


def trained(optimizer, steps=400, seed=0):
    """The dataset of a linear net that learns noisy labels, sampled at every step."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8, bias=False), torch.nn.Linear(8, 2, bias=False)).double()
    teacher = torch.randn(2, 3).double()
    update = optimizer(net.parameters())
    watch = Watch(net, schedule=1, quantities=("noise", "rank"), optimizer=update)
    for _ in range(steps):
        x = torch.randn(8, 3).double()
        y = x @ teacher.T + torch.randn(8, 2).double()
        update.zero_grad()
        with watch.step():
            (0.5 * (net(x) - y).square().sum(1)).mean().backward()
        update.step()
    return watch.to_xarray()


def change(training, name):
    values = training[name].squeeze("interface")
    return float(values[-1] - values[0])


def test_label_noise_lowers_it_as_predicted():
    for decay in (0.0, 0.02):
        training = trained(lambda p, decay=decay: torch.optim.SGD(p, lr=0.02, weight_decay=decay))
        measured, predicted = change(training, "log_det"), change(training, "log_det_predicted")
        assert abs(predicted / measured - 1) < 0.01
        assert measured < -0.2


def test_it_is_not_predicted_for_clipped_gradients():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8, bias=False), torch.nn.Linear(8, 2, bias=False)).double()
    update = torch.optim.SGD(net.parameters(), lr=0.02)
    watch = Watch(net, schedule=1, optimizer=update)
    for _ in range(3):
        update.zero_grad()
        with watch.step():
            net(torch.randn(8, 3).double()).square().sum(1).mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        update.step()
    assert watch.to_xarray().log_det_predicted[-1].isnull().all()
    assert any("clipping" in why for _, _, why in watch.coverage().rows)


def test_it_is_not_predicted_under_another_optimizer():
    training = trained(lambda p: torch.optim.Adam(p, lr=1e-3), steps=20)
    assert training.log_det_predicted[1:].isnull().all()
    momentum = trained(lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.5), steps=20)
    assert momentum.log_det_predicted[1:].isnull().all()
