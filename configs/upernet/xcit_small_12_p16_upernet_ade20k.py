# UperNet with XCiT-S12/16
_base_ = "../xcit_upernet_ade20k.py"
