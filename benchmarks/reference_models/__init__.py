"""Reference networks of the compression benchmarks: plain torch modules, loaders and data.

`resnet`: ResNet-20 and ResNet-56 for CIFAR-10. `minilm`: the sentence encoder all-MiniLM-L6-v2.
`llama`: stories260K and SmolLM2-135M. `lenet`: LeNet5 on MNIST, trained here.
"""
