"""What is trained: the planned 3-D U-Net with named features, and the EMA teacher."""

from medseg.networks.teacher import Teacher, ema_decay
from medseg.networks.unet import NetworkOutput, UNet, planned_unet, students

__all__ = ["NetworkOutput", "Teacher", "UNet", "ema_decay", "planned_unet", "students"]
