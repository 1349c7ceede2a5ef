"""Names of networks, data, losses and pixels as a reader knows them; what is not listed keeps its own."""

from __future__ import annotations

TITLES = {
    "mlp": "MLP",
    "mlp_small": "MLP (small)",
    "cnn": "CNN",
    "cnn_small": "CNN (small)",
    "transformer": "Transformer",
    "transformer_small": "Transformer (small)",
    "resnet8": "ResNet-8",
    "resnet8_quarter": "ResNet-8 (¼ width)",
    "resnet8_chunk": "ResNet-8 (statistics of each chunk)",
    "resnet8_quarter_chunk": "ResNet-8 (¼ width, statistics of each chunk)",
    "vgg11": "VGG-11",
    "vgg11_quarter": "VGG-11 (¼ width)",
    "mnist": "MNIST",
    "mnist5k": "MNIST-5k",
    "fashion_mnist5k": "Fashion-MNIST-5k",
    "digits_300": "digits-300",
    "cifar10_1k": "CIFAR10-1k",
    "cifar10_5k": "CIFAR10-5k",
    "sst2_1k": "SST2-1k",
    "mse": "mean square",
    "cross_entropy": "cross-entropy",
    "unit": "pixels x/255",
    "standardized": "standardized pixels",
    "per_pixel": "each pixel standardized",
}


def title(name: object) -> str:
    """The name as a reader knows it: "MNIST-5k" of ``mnist5k``."""
    return TITLES.get(str(name), str(name))


def trained(model: object, dataset: object, loss: object = "mse") -> str:
    """A network and its data: "MLP on MNIST-5k"; the loss where it is not the mean square."""
    return f"{title(model)} on {title(dataset)}" + ("" if loss == "mse" else f", {title(loss)}")
